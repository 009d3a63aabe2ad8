"""Invocations that are handled together: gathered for a while, run once, and in halves when that fails.

Each keeps its own Lease, Attempt, log and outputs; they meet only for the run. One that fails alone pays alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from tidemill_common.bus import Lease
from tidemill_common.contracts.invocation import Reason
from tidemill_common.contracts.service import Batch as BatchBounds
from tidemill_common.contracts.service import Service
from tidemill_supervisor.batch_run import BatchRuns, Member
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.batches import halves
from tidemill_supervisor.domain.environment import Place, event_text
from tidemill_supervisor.domain.events import Recognised
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.protocol import Assignment
from tidemill_supervisor.execution import Limits
from tidemill_supervisor.ports import Clock, Sink
from tidemill_supervisor.staging import Left, everything
from tidemill_supervisor.workspaces import Workspaces, make

log = structlog.get_logger()

_FOR_ALL: Final = frozenset({Reason.START_FAILED, Reason.CANCELLED, Reason.SERVICE_REMOVED, Reason.DEADLINE_PASSED})
"""Failures that no input is to blame for: halving would not help."""


class Batch:
    """Invocations that came within the time; run when it is closed and all of them have arrived or left."""

    def __init__(self, solve: Callable[[Sequence[Member]], Awaitable[None]], over: Callable[[Batch], None]) -> None:
        self.size = 0
        self.is_closed = False
        self._unanswered = 0
        self._solve = solve
        self._over = over
        self._expected = 0
        self._members: list[Member] = []
        self._run: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """One more will arrive, or leave."""
        self.size += 1
        self._unanswered += 1
        self._expected += 1

    def close(self) -> None:
        """No more will come."""
        self.is_closed = True
        self._begin()

    def arrive(self, member: Member) -> None:
        """It is staged in."""
        self._members.append(member)
        self.leave()

    def leave(self) -> None:
        """It will not arrive (any more)."""
        self._expected -= 1
        self._begin()

    async def drop(self, member: Member) -> None:
        """Forget about one that has arrived; the last one ends the run."""
        member.is_gone = True
        if self._run is not None and all(each.is_gone or each.outcome.done() for each in self._members):
            self._run.cancel()
            await asyncio.wait({self._run})

    def answered(self) -> None:
        """One of its Invocations is done with."""
        self._unanswered -= 1
        if self.is_closed and not self._unanswered:
            self._over(self)

    def _begin(self) -> None:
        if self.is_closed and self._expected == 0 and self._members and self._run is None:
            self._run = asyncio.create_task(self._carry_out())

    async def _carry_out(self) -> None:
        error: BaseException | None = None
        try:
            await self._solve(self._members)
        except asyncio.CancelledError:
            raise
        except Exception as failure:  # noqa: BLE001  # whoever waits gets it
            error = failure
        finally:
            for member in self._members:
                if member.outcome.done():
                    continue
                if error is None or member.is_gone:
                    member.outcome.cancel()
                else:
                    member.outcome.set_exception(error)


class BatchItem:
    """One Invocation's way through a batch; the port `Handling`."""

    def __init__(self, batch: Batch, workspaces: Workspaces, clock: Clock) -> None:
        self._batch = batch
        self._workspaces = workspaces
        self._clock = clock
        self._member: Member | None = None

    def furnish(self, place: Place, service: Service, event: Recognised) -> None:
        """See the port."""
        make(place)
        if event_text(event.raw) is None:
            place.event_file.write_bytes(event.raw)

    def needs_input(self, event: Recognised) -> bool:
        """Only when there is any."""
        return bool(event.content)

    async def run(self, assignment: Assignment, definition: Definition, limits: Limits, sink: Sink) -> Outcome:
        """See the port."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._member = Member(assignment=assignment, definition=definition, limits=limits, sink=sink, outcome=outcome)
        self._batch.arrive(self._member)
        deadline = assignment.invocation.event.deadline
        try:
            async with asyncio.timeout(None if deadline is None else (deadline - self._clock()).total_seconds()):
                return await outcome
        except TimeoutError:
            await self._batch.drop(self._member)
            return Outcome(reason=Reason.DEADLINE_PASSED, message="its deadline passed while its batch ran")
        except asyncio.CancelledError:
            await self._batch.drop(self._member)
            raise

    def left(self, place: Place) -> Left:
        """See the port."""
        member = self._member
        return everything(place) if member is None or member.left is None else member.left

    async def clear(self, place: Place) -> None:
        """See the port."""
        if self._member is None:
            self._batch.leave()
        elif self._member.folder is not None:
            await self._member.folder.leave()
        self._batch.answered()
        await self._workspaces.give(place)


class Batches:
    """Gathers Leases into batches, and runs as many at a time as there are slots."""

    def __init__(self, runs: BatchRuns, workspaces: Workspaces, clock: Clock, *, slots: int) -> None:
        self._workspaces = workspaces
        self._runs = runs
        self._clock = clock
        self._slots = slots
        self._room = asyncio.Semaphore(slots)
        self._open: Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[Batch] = set()

    def choose(self, lease: Lease, bounds: BatchBounds) -> BatchItem:
        """Put it into a batch. One that has failed, or was lost with a Worker, runs alone."""
        if lease.attempt > 1:
            batch = self._begin()
            batch.expect()
            batch.close()
            return BatchItem(batch, self._workspaces, self._clock)
        batch = self._open or self._gather(bounds)
        batch.expect()
        if batch.size >= bounds.size:
            self.close_open()
        return BatchItem(batch, self._workspaces, self._clock)

    def close_open(self) -> None:
        """Wait no longer for more."""
        if self._timer is not None:
            self._timer.cancel()
        batch, self._open = self._open, None
        if batch is not None:
            batch.close()

    def allowed(self, bounds: BatchBounds) -> int:
        """How many Leases may be held: those of what runs, and as many as fill what is free."""
        closed = [batch for batch in self._under_way if batch.is_closed]
        return sum(batch.size for batch in closed) + bounds.size * max(self._slots - len(closed), 0)

    def _gather(self, bounds: BatchBounds) -> Batch:
        self._open = self._begin()
        self._timer = asyncio.get_running_loop().call_later(bounds.wait.total_seconds(), self.close_open)
        return self._open

    def _begin(self) -> Batch:
        batch = Batch(self._solve_in_turn, self._under_way.discard)
        self._under_way.add(batch)
        return batch

    async def _solve_in_turn(self, members: Sequence[Member]) -> None:
        async with self._room:
            await self._solve(members)

    async def _solve(self, members: Sequence[Member]) -> None:
        """Run until each has its outcome."""
        here = [member for member in members if not member.is_gone]
        if not here:
            return
        whole = await self._runs.run(here)
        if whole is None:
            return
        pending = [member for member in here if not member.outcome.done()]
        if len(here) == 1 or whole.reason in _FOR_ALL:
            for member in pending:
                member.outcome.set_result(whole)
            return
        log.info("batch failed, tried in halves", size=len(here), reason=whole.reason, message=whole.message)
        for member in pending:
            member.note(f"the batch of {len(here)} failed ({whole.message or whole.reason}) and is tried in halves")
        for half in halves(pending):
            await self._solve(half)
