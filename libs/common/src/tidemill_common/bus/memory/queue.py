"""Work queues in memory, with the semantics of JetStream."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from tidemill_common.bus import WORK_AVAILABLE, Backlog, Leases
from tidemill_common.bus.addresses import address, service_token
from tidemill_common.bus.backlogs import backlogs
from tidemill_common.bus.memory.leases import MemoryLeases
from tidemill_common.bus.memory.live import MemoryLive
from tidemill_common.bus.memory.stream import FULL_RETRY_AFTER
from tidemill_common.bus.memory.work import Work, WorkStore
from tidemill_common.bus.wakes import Wakes
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import ThrottledError
from tidemill_common.settings import BusSettings


class MemoryWorkQueue:
    """The work queues of all Services."""

    def __init__(self, store: WorkStore, live: MemoryLive, settings: BusSettings) -> None:
        self._store = store
        self._live = live
        self._settings = settings
        self._wakes = Wakes(self._wake)

    async def submit(
        self, invocation: Invocation, *, lane: Lane | None = None, not_before: datetime | None = None
    ) -> bool:
        """Queue one Invocation; see `WorkQueue.submit`."""
        service, store = service_token(invocation.service), self._store
        if len(store.all) >= self._settings.work_max_messages:
            raise ThrottledError(f"the queue of {service} is full", retry_after=FULL_RETRY_AFTER)
        self._wakes.wake(service)
        if store.seen.is_repeat(invocation.id, self._settings.duplicate_window):
            return False
        store.seen.remember(invocation.id)
        work = Work(next(store.positions), invocation.service, lane or invocation.lane, invocation.encode())
        store.add(work, not_before)
        return True

    async def plan(self, retry: RetryAsked) -> bool:
        """Queue the Attempt that a Lease asked for; see `WorkQueue.plan`."""
        service, store = service_token(retry.service), self._store
        if store.seen.is_repeat(retry.message_id(), self._settings.duplicate_window):
            return False
        store.seen.remember(retry.message_id())
        work = Work(next(store.positions), retry.service, retry.lane, retry.invocation, retry.attempt, retry.failures)
        store.add(work, retry.not_before)
        self._wakes.wake(service)
        return True

    async def _wake(self, service: str) -> None:
        await self._live.publish(WORK_AVAILABLE.format(service=service), b"")

    @asynccontextmanager
    async def leases(self, service: ServiceName, *, slots: int) -> AsyncIterator[Leases]:
        """Lease this Service's Invocations; see `WorkQueue.leases`."""
        leases = MemoryLeases(self._store, self._settings, ServiceName(service_token(service)), slots)
        try:
            yield leases
        finally:
            leases.stop()

    async def backlog(self) -> Mapping[ServiceName, Backlog]:
        """What waits, of every Service that has something."""
        subjects = Counter(
            f"{'later' if work.delayed else 'work'}.0.{work.service}.{work.lane}" for work in self._store.all.values()
        )
        subjects.update(self._store.asked.subjects())
        return backlogs(subjects.items())

    async def purge(self, service: ServiceName) -> int:
        """Drop all that waits for a Service."""
        dropped = [work for work in self._store.all.values() if work.service == service]
        for work in dropped:
            self._store.end(work)
        return len(dropped) + self._store.asked.purge(address(RETRY_ASKED, service))

    async def close(self) -> None:
        """Send the last wake-ups."""
        await self._wakes.close()
