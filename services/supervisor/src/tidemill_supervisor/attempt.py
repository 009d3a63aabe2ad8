"""The path of one Lease (docs/internals.md, "The path of an Invocation", 3 and 4).

started, stage in, run, stage out, the terminal record, the caller's reply, and only then the answer to the Lease: a
crash anywhere before the answer repeats the Invocation, and each step is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from tidemill_common.bus import Lease, Log
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, Change, Reason
from tidemill_common.errors import LeaseLostError, NotFoundError, TidemillError
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place, user_environment
from tidemill_supervisor.domain.events import Recognised, recognise
from tidemill_supervisor.domain.outcome import Decision, Finish, Outcome, SetAside, TryAgain, decide
from tidemill_supervisor.domain.outputs import OutputFile
from tidemill_supervisor.domain.transcript import LogBounds, Transcript
from tidemill_supervisor.execution import Limits, execute
from tidemill_supervisor.logs import LogShipper
from tidemill_supervisor.ports import Clock, Command, Jitter, Scripts
from tidemill_supervisor.processes import interpreter_of
from tidemill_supervisor.reporting import Execution, Reporter, dead_letter
from tidemill_supervisor.results import Result, Results
from tidemill_supervisor.staging import (
    StagingError,
    check_outputs,
    find_outputs,
    stage_in,
    stage_out,
    staging_error,
)
from tidemill_supervisor.workspace import furnish, remove_tree

log = structlog.get_logger()

_SHORTEST_PAUSE: Final = timedelta(milliseconds=50)


class Interruption(StrEnum):
    """Why an Attempt is stopped from outside."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease-lost"
    DRAINED = "drained"
    SERVICE_REMOVED = "service-removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator fixed for all Attempts of this Worker."""

    max_lost: int = 10
    grace: timedelta = timedelta(seconds=5)
    disk_limit_bytes: int | None = None
    enforce_memory: bool = False
    parallel_uploads: int = 8
    bounds: LogBounds = field(default_factory=LogBounds)
    flush_interval: timedelta = timedelta(milliseconds=200)
    flush_timeout: timedelta = timedelta(seconds=5)
    system_bucket: str = "tidemill"
    result_file_bytes: int = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What Attempts work with."""

    bus_log: Log
    reporter: Reporter
    scripts: Scripts
    clock: Clock
    jitter: Jitter
    rules: Rules


class Attempt:
    """One execution of one Invocation."""

    def __init__(
        self, lease: Lease, definition: Definition, place: Place, execution: Execution, tools: Tools, *, cancelled: bool
    ) -> None:
        self._lease = lease
        self._definition = definition
        self._place = place
        self._execution = execution
        self._tools = tools
        self._cancelled = cancelled
        self._cause: Interruption | None = None
        self._interruptible = False
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

    async def run(self) -> None:
        """Take the Lease from its start to its answer; its workspace is gone afterwards."""
        keeper = asyncio.create_task(self._keep_lease())
        self._work = asyncio.create_task(self._perform_and_answer())
        try:
            await asyncio.wait({self._work})
        finally:
            for task in (keeper, self._work):
                task.cancel()
            await asyncio.gather(keeper, self._work, return_exceptions=True)
            await asyncio.to_thread(remove_tree, self._place.root)
        if not self._work.cancelled() and (error := self._work.exception()) is not None:
            log.error("attempt was not settled", invocation_id=self._lease.invocation.id, exc_info=error)
        if not self._answered:
            await self._let_go()

    def interrupt(self, cause: Interruption) -> None:
        """Stop it. What is decided already is not undone; only a lost Lease also stops the reporting."""
        if self._work is None or self._cause is not None:
            return
        if self._interruptible or cause is Interruption.LEASE_LOST:
            self._cause = cause
            self._work.cancel()

    async def _keep_lease(self) -> None:
        """Extend the Lease every third of its time."""
        while True:
            left = self._lease.deadline - self._tools.clock()
            await asyncio.sleep(max(left / 3, _SHORTEST_PAUSE).total_seconds())
            try:
                await self._lease.extend()
            except LeaseLostError as error:
                log.warning("lease lost", invocation_id=self._lease.invocation.id, error=str(error))
                self.interrupt(Interruption.LEASE_LOST)
                return
            except TidemillError as error:
                log.warning("lease not extended, trying again", error=str(error))

    async def _let_go(self) -> None:
        """Give up a Lease that could not be answered: when it has ended, so that nobody gets it at once again."""
        left = self._lease.deadline - self._tools.clock()
        await asyncio.sleep(max(left.total_seconds(), 0))
        with contextlib.suppress(TidemillError):
            await self._lease.release()

    async def _perform_and_answer(self) -> None:
        outcome = await self._outcome()
        if outcome is None:
            self._answered = True
            await self._lease.release()
            return
        decision = decide(
            outcome,
            policy=self._definition.service.retry,
            failures=self._lease.failures,
            awaited=self._lease.invocation.event.reply_to is not None,
            jitter=self._tools.jitter(),
        )
        log.info(
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
        self._interruptible = True
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
            self._interruptible = False

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

    async def _perform(self) -> Outcome:
        """Run it, and say meanwhile that it has started."""
        rules = self._tools.rules
        async with asyncio.TaskGroup() as group, self._shipper.shipping(rules.flush_interval):
            group.create_task(self._tools.reporter.started(self._execution, self._tools.clock()))
            try:
                return await self._carry_out()
            except StagingError as error:
                return error.outcome
            except OSError as error:
                return Outcome(reason=Reason.START_FAILED, message=f"workspace: {error}")

    async def _carry_out(self) -> Outcome:
        service, stores = self._definition.service, self._definition.stores
        event = recognise(self._lease.invocation.event, await self._payload(), service)
        furnish(self._place, script=service.script, event=event.raw)
        await check_outputs(service.output, stores)
        input_file = await self._stage_in(event)
        outcome = await execute(
            self._tools.scripts, self._command(event, input_file), self._place, self._limits(), self._shipper.write
        )
        return await self._deliver(event, outcome)

    async def _payload(self) -> bytes:
        event = self._lease.invocation.event
        if event.data_ref is None:
            return event.data or b""
        try:
            store = await self._definition.stores.open(event.data_ref.provider)
            return await store.get(event.data_ref.path)
        except NotFoundError as error:
            raise staging_error(Reason.INPUT_MISSING, f"payload {event.data_ref.path}", error) from error
        except TidemillError as error:
            raise staging_error(Reason.STAGE_IN_FAILED, f"payload {event.data_ref.path}", error) from error

    async def _stage_in(self, event: Recognised) -> Path | None:
        """The input's file; None: the Service fetches it itself (`file_stage_in`)."""
        service = self._definition.service
        if event.artifact is not None and service.file_stage_in:
            return None
        if event.artifact is not None and self._lease.invocation.event.artifact is None:
            self._check_reach(event.artifact)
        return await stage_in(event, self._place, self._definition.stores, self._shipper.note)

    def _check_reach(self, artifact: ArtifactRef) -> None:
        """An object that a caller named himself must be one that the Service's owner could read."""
        if not may_read(self._definition, artifact, self._tools.rules.system_bucket):
            message = f"{artifact.provider}:{artifact.path} is in no bucket of this Service"
            raise StagingError(Outcome(reason=Reason.STAGE_IN_FAILED, message=message, permanent=True))

    def _command(self, event: Recognised, input_file: Path | None) -> Command:
        service, place = self._definition.service, self._place
        environment = user_environment(
            self._lease.invocation,
            service,
            secrets=self._definition.secrets,
            event=event,
            input_file=input_file,
            place=place,
        )
        return Command(
            arguments=interpreter_of(service.script, place.script),
            environment=environment,
            directory=place.root,
            file_limit_bytes=self._disk_limit,
            memory_limit_bytes=self._definition.memory_bytes if self._tools.rules.enforce_memory else None,
        )

    def _limits(self) -> Limits:
        return Limits(
            timeout=self._definition.service.timeout, disk_bytes=self._disk_limit, grace=self._tools.rules.grace
        )

    @property
    def _disk_limit(self) -> int | None:
        return self._definition.disk_limit_bytes or self._tools.rules.disk_limit_bytes

    async def _deliver(self, event: Recognised, outcome: Outcome) -> Outcome:
        """Store what the script left, ship the rest of its log, make the answer."""
        done = outcome.reason is Reason.COMPLETED
        files = await find_outputs(self._place, self._definition.service.output, self._shipper.note) if done else []
        rest = asyncio.create_task(self._shipper.ship_rest(self._tools.rules.flush_timeout))
        try:
            outputs = await self._stage_out(files)
            result = await self._result(event, files)
        finally:
            await rest
        return replace(
            outcome,
            outputs=outputs,
            result=result.inline,
            result_ref=result.ref,
            log_tail=self._shipper.transcript.tail,
        )

    async def _stage_out(self, files: list[OutputFile]) -> tuple[ArtifactRef, ...]:
        if not files:
            return ()
        return await stage_out(
            files,
            self._definition.service.output,
            invocation=InvocationId(self._lease.invocation.id),
            stores=self._definition.stores,
            parallel=self._tools.rules.parallel_uploads,
        )

    async def _result(self, event: Recognised, files: list[OutputFile]) -> Result:
        """The answer of a direct call; empty for everything else, whose output is in its log."""
        if self._lease.invocation.trigger != DIRECT_TRIGGER:
            return Result()
        results = Results(
            stores=self._definition.stores,
            system_bucket=self._tools.rules.system_bucket,
            limit_bytes=self._tools.rules.result_file_bytes,
        )
        of_files = files if event.artifact is None else []
        found = await results.of_files(of_files, self._lease.invocation.id, self._place)
        return found or await results.of_text(self._shipper.transcript.text, self._lease.invocation.id, self._place)


def may_read(definition: Definition, artifact: ArtifactRef, system_bucket: str) -> bool:
    """Whether a Service may read an object that its caller named: the administrator's may, others their own buckets.

    The keys of the platform's store open every bucket of every user, so the name alone must not.
    """
    service = definition.service
    if artifact.bucket == system_bucket:
        return False
    if service.owner == "cluster_admin" or not definition.stores.is_shared(artifact.provider):
        return True
    return artifact.bucket in {*service.bucket_list, *(entry.bucket for entry in (*service.input, *service.output))}


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
    with contextlib.suppress(AttributeError):
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
