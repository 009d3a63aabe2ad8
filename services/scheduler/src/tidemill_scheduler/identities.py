"""Short-lived bus identities of Workers: one a Service, renewed before it expires, gone with the Service's last Worker.

A Worker reads its credentials again whenever it connects, and the server ends a connection whose identity has expired.
So whoever writes them anew in time keeps Workers connected, and whoever stops to takes their rights away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from tidemill_common.bus.nats.issuing import WorkerIssuer
from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.settings import Settings

log = structlog.get_logger()

_LOOKS: Final = 10
"""How often in a lifetime files are looked at."""
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_SUFFIX: Final = ".creds"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusIdentity:
    """Credentials for the Workers of one Service."""

    text: str
    """Content of a NATS credentials file; a secret."""
    issued_at: datetime
    expires_at: datetime

    @property
    def renew_at(self) -> datetime:
        """When to write another in its place: half of its time is left then, for whoever is slow or away."""
        return self.issued_at + (self.expires_at - self.issued_at) / 2

    def __repr__(self) -> str:
        return f"BusIdentity(expires_at={self.expires_at:%Y-%m-%dT%H:%M:%SZ})"


class WorkerIdentities(Protocol):
    """Where launchers get identities for Workers."""

    @property
    def lifetime(self) -> timedelta:
        """How long each holds."""
        ...

    def creds_for(self, service: ServiceName) -> BusIdentity:
        """A new one, good for this Service alone.

        Raises:
            InvalidInputError: That is no Service's name.
        """
        ...


class SignedIdentities:
    """Identities that this process signs itself: no other is needed to issue or to check one."""

    def __init__(
        self, issuer: WorkerIssuer, lifetime: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._issuer = issuer
        self._lifetime = lifetime
        self._clock = clock

    @property
    def lifetime(self) -> timedelta:
        """How long each holds."""
        return self._lifetime

    def creds_for(self, service: ServiceName) -> BusIdentity:
        """A new one; see `WorkerIdentities`."""
        now = self._clock()
        credentials = self._issuer.issue(service, now=now, lifetime=self._lifetime)
        return BusIdentity(text=credentials.text(), issued_at=now, expires_at=now + self._lifetime)


def identities_of(settings: Settings) -> WorkerIdentities | None:
    """What issues identities; None: Workers share one, as the settings say.

    Raises:
        UnavailableError: The key cannot be read.
        InvalidInputError: It is no such key.
    """
    worker = settings.worker
    if worker.identity_key_file is None:
        return None
    issuer = WorkerIssuer.read(worker.identity_key_file, shards=settings.bus.shards)
    return SignedIdentities(issuer, worker.identity_lifetime)


class IdentityFiles:
    """Identities as files of mode 0600, for Workers on this machine.

    Args:
        directory: Nothing else is kept in it.
    """

    def __init__(self, identities: WorkerIdentities, directory: Path) -> None:
        self._identities = identities
        self._directory = directory
        self._known: dict[ServiceName, BusIdentity] = {}

    def path_of(self, service: ServiceName) -> Path:
        """Where a Service's file is."""
        return self._directory / f"{service}{_SUFFIX}"

    def provide(self, service: ServiceName) -> Path:
        """The file, written anew when half of its time is over.

        Raises:
            OSError: It cannot be written.
            InvalidInputError: That is no Service's name.
        """
        known, path = self._known.get(service), self.path_of(service)
        if known is None or known.renew_at <= datetime.now(UTC) or not path.exists():
            identity = self._identities.creds_for(service)
            _write(path, identity.text)
            self._known[service] = identity
        return path

    def remove(self, service: ServiceName) -> None:
        """Forget a Service that has no Workers."""
        self._known.pop(service, None)
        self.path_of(service).unlink(missing_ok=True)

    async def keep(self, services: Callable[[], Collection[ServiceName]]) -> None:
        """Renew the files of these Services in time and remove all others, for ever.

        Args:
            services: Those that have Workers now.
        """
        while True:
            try:
                self.renew(services())
            except OSError as error:
                log.error("bus identities not renewed", error=str(error))
            pause = min(self._identities.lifetime / _LOOKS, _LONGEST_PAUSE)
            await asyncio.sleep(pause.total_seconds())

    def renew(self, services: Collection[ServiceName]) -> None:
        """One look: write what is due, remove what nobody uses."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if path.name.removesuffix(_SUFFIX) not in services:
                self.remove(ServiceName(path.name.removesuffix(_SUFFIX)))
        for service in services:
            self.provide(service)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a Worker may read it at any moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)
