"""What the Worker's Service is: its newest definition, secrets and stores, followed while the Worker lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined
from tidemill_common.errors import InvalidInputError, UnavailableError
from tidemill_common.quantity import size_bytes
from tidemill_common.secrets import PLATFORM, SecretRecord, SecretStore
from tidemill_supervisor.ports import Stores
from tidemill_supervisor.stores import OpenStores, ServiceStores

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One revision of a Service with what belongs to it."""

    service: Service
    revision: int
    secrets: Mapping[str, str]
    """For user code."""
    stores: Stores

    @property
    def disk_limit_bytes(self) -> int | None:
        """`ephemeral_storage_request`; None: it asks for none."""
        try:
            return size_bytes(self.service.ephemeral_storage_request) or None
        except InvalidInputError:
            return None

    @property
    def memory_bytes(self) -> int | None:
        """`memory`; None: none, or no quantity."""
        try:
            return size_bytes(self.service.memory) or None
        except InvalidInputError:
            return None


class Definitions:
    """Follows one Service."""

    def __init__(
        self,
        bus_log: Log,
        service: ServiceName,
        secrets: SecretStore,
        stores: OpenStores,
        *,
        removed: Callable[[], None],
    ) -> None:
        self._log = bus_log
        self._service = service
        self._secrets = secrets
        self._stores = stores
        self._removed = removed
        self._current: Definition | None = None
        self._missed: int | None = None
        self._changed = asyncio.Condition()

    @property
    def current(self) -> Definition | None:
        """The newest; None: none has been read yet."""
        return self._current

    async def follow(self) -> None:
        """Read definitions as they come, for ever."""
        async with self._log.read(DEFINED, key=self._service, follow=True) as records:
            async for record in records:
                await self._take(record.body)

    async def at_least(self, revision: int, timeout: timedelta) -> Definition:
        """The newest definition, after waiting a little for `revision` when it is older.

        Raises:
            UnavailableError: There is none at all.
        """
        if not self._has(revision) and revision != self._missed:
            try:
                async with asyncio.timeout(timeout.total_seconds()), self._changed:
                    await self._changed.wait_for(lambda: self._has(revision))
            except TimeoutError:
                self._missed = revision  # not waited for again, or every Lease would lose the time
                log.warning("definition is older than its work", service=self._service, revision=revision)
        if self._current is None:
            raise UnavailableError(f"read the definition of {self._service}: there is none")
        return self._current

    def _has(self, revision: int) -> bool:
        return self._current is not None and self._current.revision >= revision

    async def _take(self, defined: ServiceDefined) -> None:
        if defined.service is None:
            log.info("service was removed", service=self._service, revision=defined.revision)
            self._removed()
            return
        own = await self._secrets.get(self._service) or SecretRecord()
        platform = await self._secrets.get(PLATFORM) or SecretRecord()
        stores = ServiceStores(self._stores, own=own.providers, platform=platform.providers)
        definition = Definition(
            service=defined.service, revision=defined.revision, secrets=own.environment, stores=stores
        )
        async with self._changed:
            self._current = definition
            self._changed.notify_all()
        log.info("definition read", service=self._service, revision=defined.revision)
