"""Leases in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from tidemill_common.bus.addresses import address
from tidemill_common.bus.memory.clock import Clock
from tidemill_common.bus.memory.work import Work, WorkStore
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.invocation import SET_ASIDE, DeadLetter, Invocation
from tidemill_common.contracts.poison import POISONED, Poison
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import InvalidMessageError, LeaseLostError
from tidemill_common.settings import BusSettings


class MemoryLeases:
    """The Leases of one Worker; see `Leases`."""

    def __init__(self, store: WorkStore, settings: BusSettings, service: ServiceName, slots: int) -> None:
        self._store = store
        self._settings = settings
        self._service = service
        self._slots = slots
        self._held = 0
        self._stopping = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MemoryLease:
        while not self._stopping:
            taken = self._store.take(self._service, self._settings.lease) if self._held < self._slots else None
            if taken is None:
                await self._store.changed.wait()
            elif (lease := self._open(*taken)) is not None:
                return lease
        raise StopAsyncIteration

    def _open(self, work: Work, deadline: datetime) -> MemoryLease | None:
        try:
            invocation = Invocation.decode(work.body)
        except InvalidMessageError as error:
            self._set_aside(work, error)
            return None
        self._held += 1
        return MemoryLease(self, self._store, work, invocation, deadline, self._settings)

    def _set_aside(self, work: Work, error: InvalidMessageError) -> None:
        poison = Poison(
            service=work.service, lane=work.lane, body=work.body, message=str(error), at=self._store.clock.now()
        )
        self._store.set_aside(POISONED, poison, work.service, f"poison.{work.position}")
        self._store.end(work)

    def allow(self, slots: int) -> None:
        """From now on at most so many unanswered."""
        self._slots = slots
        self._store.changed.fire()

    def stop(self) -> None:
        """Lease no more."""
        self._stopping = True
        self._store.changed.fire()

    def answered(self) -> None:
        """A slot is free."""
        self._held -= 1
        self._store.changed.fire()


class MemoryLease:
    """A Worker's right to one Invocation; see `Lease`."""

    def __init__(
        self,
        owner: MemoryLeases,
        store: WorkStore,
        work: Work,
        invocation: Invocation,
        deadline: datetime,
        settings: BusSettings,
    ) -> None:
        self.invocation = invocation
        self.lane = work.lane
        self.failures = work.failures
        self.lost = work.delivered - 1
        self.attempt = work.attempt + self.lost
        self.deadline = deadline
        self._owner: MemoryLeases | None = owner
        self._store = store
        self._work = work
        self._number = work.lease
        self._settings = settings

    @property
    def _clock(self) -> Clock:
        return self._store.clock

    @property
    def _is_over(self) -> bool:
        return self._clock.now() >= self.deadline

    def _free_slot(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.answered()

    async def done(self) -> None:
        """The Invocation is finished; also after the Lease was lost."""
        self._store.end(self._work)
        self._free_slot()

    async def retry(self, delay: timedelta, reason: str) -> None:
        """Store the ask for the next Attempt, then end this one."""
        try:
            if self._is_over:
                raise LeaseLostError(f"retry {self.invocation.id} after {reason}: the lease ended at {self.deadline}")
            self._ask_for_next(delay)
            self._store.end(self._work)
        finally:
            self._free_slot()

    def _ask_for_next(self, delay: timedelta) -> None:
        work = self._work
        retry = RetryAsked(
            service=work.service,
            lane=work.lane,
            invocation_id=self.invocation.id,
            invocation=work.body,
            attempt=self.attempt + 1,
            failures=self.failures + 1,
            not_before=self._clock.now() + delay if delay > timedelta() else None,
        )
        self._store.asked.append(address(RETRY_ASKED, work.service), retry.encode(), None)

    async def dead(self, letter: DeadLetter) -> None:
        """Store the dead letter, then end this Lease."""
        self._store.set_aside(SET_ASIDE, letter, self._work.service, f"{self.invocation.id}.dead.{self.attempt}")
        self._store.end(self._work)
        self._free_slot()

    async def release(self) -> None:
        """Give it back at once; a Lease that was lost is left alone."""
        if not self._is_over and self._work.lease == self._number:
            self._store.offer(self._work)
        self._free_slot()

    async def extend(self) -> None:
        """Push `deadline` out."""
        if self._is_over:
            raise LeaseLostError(f"extend {self.invocation.id}: the lease ended at {self.deadline}")
        self.deadline = self._store.hold(self._work, self._number, self._settings.lease)
