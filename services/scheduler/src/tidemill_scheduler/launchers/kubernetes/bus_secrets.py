"""The Secret `tidemill-bus-<service>`: what a Service's Workers know themselves by on the bus.

Written before the first Worker of a Service starts and renewed in time while it has any; so starting another Worker
writes nothing but its Job. The scheduler needs no right to read Secrets for this.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import ConflictError
from tidemill_scheduler.identities import WorkerIdentities
from tidemill_scheduler.launchers.environment import CREDENTIALS_FILE
from tidemill_scheduler.launchers.kubernetes.api import Api, Object
from tidemill_scheduler.launchers.kubernetes.labels import MANAGED, SERVICE_LABEL
from tidemill_scheduler.launchers.kubernetes.template import BUS, BUS_FILE, bus_secret

PASSWORD_FILE: Final = "TIDEMILL_SUPERVISOR_BUS__PASSWORD_FILE"  # noqa: S105 - the name of a variable


class Credentials(Protocol):
    """What is written to the Secrets."""

    variable: str
    """Tells the supervisor what kind of file it is."""

    def issue(self, service: ServiceName) -> tuple[str, datetime | None]:
        """(the file's content, when to write another; None: never)."""
        ...


@dataclass(slots=True)
class SharedCredentials:
    """One password or identity for all Workers."""

    text: str
    variable: str = PASSWORD_FILE

    def issue(self, service: ServiceName) -> tuple[str, datetime | None]:
        """The same for all."""
        return self.text, None


class IssuedCredentials:
    """A short-lived identity for each Service."""

    variable = CREDENTIALS_FILE

    def __init__(self, identities: WorkerIdentities) -> None:
        self._identities = identities

    def issue(self, service: ServiceName) -> tuple[str, datetime | None]:
        """A new one."""
        identity = self._identities.creds_for(service)
        return identity.text, identity.renew_at


class BusSecrets:
    """The bus Secrets of one namespace."""

    def __init__(self, api: Api, namespace: str, credentials: Credentials | None) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace = namespace
        self._credentials = credentials
        self._due: dict[ServiceName, datetime | None] = {}
        """When each that this process wrote is to be written again."""
        self._writing: dict[ServiceName, asyncio.Lock] = {}
        """Workers of one Service start side by side, and need one Secret."""

    async def provide(self, service: ServiceName) -> None:
        """Have one that holds; writes only when it is due.

        Raises:
            TidemillError: It could not be written.
        """
        if self._credentials is None:
            return
        async with self._writing.setdefault(service, asyncio.Lock()):
            if service not in self._due or self._is_due(service):
                await self._write(service, self._credentials)

    async def _write(self, service: ServiceName, credentials: Credentials) -> None:
        text, renew_at = credentials.issue(service)
        secret = _manifest(service, self._namespace, text)
        try:
            await self._api.create(self._path, secret)
        except ConflictError:
            await self._api.replace(f"{self._path}/{bus_secret(service)}", secret)
        self._due[service] = renew_at

    async def renew(self, services: Collection[ServiceName]) -> None:
        """Write anew what is due of these."""
        for service in services:
            if service not in self._due or self._is_due(service):
                await self.provide(service)

    async def remove(self, service: ServiceName) -> None:
        """The Service is no more. One that is defined again meanwhile has its Secret after that."""
        async with self._writing.setdefault(service, asyncio.Lock()):
            self._due.pop(service, None)
            if self._credentials is not None:
                await self._api.delete(f"{self._path}/{bus_secret(service)}")
            self._writing.pop(service, None)

    def _is_due(self, service: ServiceName) -> bool:
        due = self._due.get(service)
        return due is not None and due <= datetime.now(UTC)


def credentials_environment(credentials: Credentials | None) -> dict[str, str]:
    """How the supervisor finds its file."""
    return {} if credentials is None else {credentials.variable: f"{BUS}/{BUS_FILE}"}


def _manifest(service: ServiceName, namespace: str, text: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": bus_secret(service),
            "namespace": namespace,
            "labels": {**MANAGED, "app.kubernetes.io/component": "bus-identity", SERVICE_LABEL: service},
        },
        "type": "Opaque",
        "data": {BUS_FILE: base64.b64encode(text.encode()).decode()},
    }
