"""The path of one Lease (docs/internals.md, "The path of an Invocation", 3 and 4).

started, stage in, run, stage out, the terminal record, the caller's reply, and only then the answer to the Lease: a
crash anywhere before the answer repeats the Invocation, and each step is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from enum import Enum, StrEnum, auto

import structlog

from tidemill_common.bus import Lease
from tidemill_common.contracts.invocation import Change, Reason
from tidemill_common.errors import TidemillError
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.outcome import Decision, Finish, Outcome, SetAside, TryAgain, decide
from tidemill_supervisor.domain.transcript import Transcript
from tidemill_supervisor.handling import FreshScript, Handling
from tidemill_supervisor.keeping import LeaseKeeper
from tidemill_supervisor.logs import LogShipper
from tidemill_supervisor.performance import Performance, Tools
from tidemill_supervisor.reporting import Execution, dead_letter

log = structlog.get_logger()


class Interruption(StrEnum):
    """Why an Attempt is stopped from outside."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease-lost"
    DRAINED = "drained"
    SERVICE_REMOVED = "service-removed"


class _Step(Enum):
    WAITING = auto()
    PERFORMING = auto()
    ANSWERING = auto()


class Attempt:
    """One execution of one Invocation."""

    def __init__(
        self,
        lease: Lease,
        definition: Definition,
        place: Place,
        execution: Execution,
        tools: Tools,
        *,
        cancelled: bool,
        handling: Handling | None = None,
    ) -> None:
        """`handling` None: a fresh script."""
        self._lease = lease
        self._definition = definition
        self._place = place
        self._execution = execution
        self._tools = tools
        self._handling = handling or FreshScript(scripts=tools.scripts, enforce_memory=tools.rules.enforce_memory)
        self._cancelled = cancelled
        self._cause: Interruption | None = None
        self._step = _Step.WAITING
        self._answered = False
        self._work: asyncio.Task[None] | None = None
        self._shipper = LogShipper(
            tools.bus_log,
            Transcript(tools.rules.bounds),
            invocation=lease.invocation.id,
            service=lease.invocation.service,
            attempt=lease.attempt,
            clock=tools.clock,
        )

    @property
    def execution(self) -> Execution:
        """What it executes."""
        return self._execution

    async def run(self) -> None:
        """Take the Lease from its start to its answer; its workspace is gone afterwards."""
        keeper = LeaseKeeper(self._lease, self._tools.clock, lambda: self.interrupt(Interruption.LEASE_LOST))
        self._work = asyncio.create_task(self._perform_and_answer())
        try:
            await asyncio.wait({self._work})
        finally:
            await keeper.stop()
            if not self._work.done():
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
            await self._handling.clear(self._place)
        if not self._work.cancelled() and (error := self._work.exception()) is not None:
            log.error("attempt was not settled", invocation_id=self._lease.invocation.id, exc_info=error)
        if not self._answered:
            await self._let_go()

    def interrupt(self, cause: Interruption) -> None:
        """Stop it. What is decided already is not undone; only a lost Lease also stops the reporting."""
        if self._cause is not None or (self._step is _Step.ANSWERING and cause is not Interruption.LEASE_LOST):
            return
        self._cause = cause
        if self._work is not None and self._step is not _Step.WAITING:
            self._work.cancel()

    async def _let_go(self) -> None:
        """Give up a Lease that could not be answered: when it has ended, so that nobody gets it at once again."""
        left = self._lease.deadline - self._tools.clock()
        await asyncio.sleep(max(left.total_seconds(), 0))
        with contextlib.suppress(TidemillError):
            await self._lease.release()

    async def _perform_and_answer(self) -> None:
        outcome = await self._outcome() if self._cause is None else _interrupted(self._cause)
        if outcome is None:
            await self._give_back()
            return
        decision = decide(
            outcome,
            policy=self._definition.service.retry,
            failures=self._lease.failures,
            awaited=self._lease.invocation.event.reply_to is not None,
            jitter=self._tools.jitter(),
        )
        # thousands a second succeed in resident scripts; LIFECYCLE has them all
        (log.debug if outcome.reason is Reason.COMPLETED else log.info)(
            "attempt ended",
            invocation_id=self._lease.invocation.id,
            attempt=self._lease.attempt,
            reason=outcome.reason,
            message=outcome.message,
        )
        try:
            await self._settle(outcome, decision)
        except TidemillError as error:  # the Lease ends by itself, and another Attempt finds the outputs in place
            log.warning("lease not answered", invocation_id=self._lease.invocation.id, error=str(error))

    async def _give_back(self) -> None:
        """Somebody else shall have it; where it is known what took the room away, the log has it."""
        told = self._tools.told() if self._cause is Interruption.DRAINED and self._step is _Step.ANSWERING else None
        if told is not None:
            outcome = Outcome(reason=told.reason, message=str(told), log_tail=self._shipper.transcript.tail)
            with contextlib.suppress(TidemillError):
                await self._tools.reporter.retried(self._execution, outcome, self._tools.clock(), timedelta(0))
        self._answered = True
        await self._lease.release()

    async def _settle(self, outcome: Outcome, decision: Decision) -> None:
        reporter, now = self._tools.reporter, self._tools.clock()
        match decision:
            case Finish(Change.CANCELLED):
                answer = self._lease.done()  # the gateway has recorded it
            case Finish(change):
                await reporter.ended(self._execution, change, outcome, now)
                answer = self._lease.done()
            case TryAgain(delay):
                await reporter.retried(self._execution, outcome, now, delay)
                answer = self._lease.retry(delay, outcome.reason)
            case SetAside():
                await reporter.ended(self._execution, Change.DEAD, outcome, now)
                answer = self._lease.dead(dead_letter(self._execution, outcome, now))
        self._answered = True
        await answer

    async def _outcome(self) -> Outcome | None:
        """How it ended; None: it was given up unfinished, and somebody else shall have it."""
        self._step = _Step.PERFORMING
        try:
            return self._refusal() or await self._perform()
        except asyncio.CancelledError:
            if self._cause is None or self._cause is Interruption.LEASE_LOST:
                raise
            _absorb_cancellation()
            return _interrupted(self._cause)
        except Exception as error:  # a bug of ours must not hold the Invocation for ever
            log.exception("attempt failed by a bug", invocation_id=self._lease.invocation.id)
            return Outcome(reason=Reason.START_FAILED, message=f"internal error: {type(error).__name__}: {error}")
        finally:
            self._step = _Step.ANSWERING

    def _refusal(self) -> Outcome | None:
        """Why it is not run at all; None: it is."""
        deadline = self._lease.invocation.event.deadline
        if self._cancelled:
            return Outcome(reason=Reason.CANCELLED)
        if deadline is not None and self._tools.clock() > deadline:
            return Outcome(reason=Reason.DEADLINE_PASSED, message=f"its deadline was {deadline.isoformat()}")
        if self._lease.lost >= self._tools.rules.max_lost:
            message = f"{self._lease.lost} Workers died or lost their Lease while they ran it"
            return Outcome(reason=Reason.WORKER_LOST, message=message, permanent=True)
        return None

    async def _perform(self) -> Outcome | None:
        """Run it, and say meanwhile that it has started."""
        rules = self._tools.rules
        performance = Performance(
            invocation=self._lease.invocation,
            definition=self._definition,
            place=self._place,
            shipper=self._shipper,
            tools=self._tools,
            handling=self._handling,
        )
        async with asyncio.TaskGroup() as group, self._shipper.shipping(rules.flush_interval):
            group.create_task(self._tools.reporter.started(self._execution, self._tools.clock()))
            return await performance.outcome()


def _interrupted(cause: Interruption) -> Outcome | None:
    match cause:
        case Interruption.CANCELLED:
            return Outcome(reason=Reason.CANCELLED)
        case Interruption.SERVICE_REMOVED:
            return Outcome(reason=Reason.SERVICE_REMOVED, message="its Service was removed while it ran")
        case _:
            return None


def _absorb_cancellation() -> None:
    """This task was cancelled to stop what it did, not to end: it has still to answer."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
