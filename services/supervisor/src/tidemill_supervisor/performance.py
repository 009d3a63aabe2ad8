"""One execution of a script from its payload to its outputs: what a Lease is for, without the Lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, Invocation, Reason
from tidemill_common.errors import NotFoundError, TidemillError
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.events import Recognised, recognise
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.outputs import OutputFile
from tidemill_supervisor.domain.protocol import Assignment
from tidemill_supervisor.domain.transcript import LogBounds
from tidemill_supervisor.execution import Limits, time_limit
from tidemill_supervisor.handling import Handling
from tidemill_supervisor.logs import LogShipper
from tidemill_supervisor.patience import patiently
from tidemill_supervisor.ports import Clock, ContainerEndedError, Jitter, NoContainerError, Scripts
from tidemill_supervisor.reporting import Reporter
from tidemill_supervisor.results import Result, Results
from tidemill_supervisor.staging import StagingError, check_outputs, find_outputs, stage_in, stage_out, staging_error

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator fixed for all Attempts of this Worker."""

    max_lost: int = 10
    load_timeout: timedelta = timedelta(minutes=10)
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
    told: Callable[[], ContainerEndedError | None] = lambda: None
    """Why this Worker must end, as far as somebody said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What one Attempt runs, and where."""

    invocation: Invocation
    definition: Definition
    place: Place
    shipper: LogShipper
    tools: Tools
    handling: Handling

    async def outcome(self) -> Outcome | None:
        """Stage in, run, stage out; every failure of these is an outcome. None: there is nothing to run it in."""
        try:
            return await self._carry_out()
        except StagingError as error:
            return replace(error.outcome, log_tail=self.shipper.transcript.tail)
        except ContainerEndedError as error:
            return Outcome(reason=error.reason, message=str(error), log_tail=self.shipper.transcript.tail)
        except NoContainerError as error:
            log.warning("attempt given up", invocation_id=self.invocation.id, error=str(error))
            return None
        except OSError as error:
            return Outcome(reason=Reason.START_FAILED, message=f"workspace: {error}")

    async def _carry_out(self) -> Outcome:
        service, stores = self.definition.service, self.definition.stores
        event = recognise(self.invocation.event, await self._payload(), service)
        self.handling.furnish(self.place, service, event)
        await check_outputs(service.output, stores)
        assignment = Assignment(
            invocation=self.invocation, event=event, input_file=await self._stage_in(event), place=self.place
        )
        outcome = await self.handling.run(assignment, self.definition, self._limits(), self.shipper.write)
        return await self._deliver(event, outcome)

    async def _payload(self) -> bytes:
        event = self.invocation.event
        if event.data_ref is None:
            return event.data or b""
        try:
            store = await self.definition.stores.open(event.data_ref.provider)
            return await patiently(partial(store.get, event.data_ref.path), self.definition.stores.pauses)
        except NotFoundError as error:
            raise staging_error(Reason.INPUT_MISSING, f"payload {event.data_ref.path}", error) from error
        except TidemillError as error:
            raise staging_error(Reason.STAGE_IN_FAILED, f"payload {event.data_ref.path}", error) from error

    async def _stage_in(self, event: Recognised) -> Path | None:
        """The input's file; None: the Service fetches it itself (`file_stage_in`)."""
        service = self.definition.service
        if service.file_stage_in if event.artifact is not None else not self.handling.needs_input(event):
            return None
        if event.artifact is not None and self.invocation.event.artifact is None:
            self._check_reach(event.artifact)
        return await stage_in(event, self.place, self.definition.stores, self.shipper.note)

    def _check_reach(self, artifact: ArtifactRef) -> None:
        """An object that a caller named himself must be one that the Service's owner could read."""
        if not may_read(self.definition, artifact, self.tools.rules.system_bucket):
            message = f"{artifact.provider}:{artifact.path} is in no bucket of this Service"
            raise StagingError(Outcome(reason=Reason.STAGE_IN_FAILED, message=message, permanent=True))

    def _limits(self) -> Limits:
        timeout, reason = time_limit(
            self.definition.service.timeout, self.invocation.event.deadline, self.tools.clock()
        )
        return Limits(timeout=timeout, timeout_reason=reason, disk_bytes=self._disk_limit, grace=self.tools.rules.grace)

    @property
    def _disk_limit(self) -> int | None:
        return self.definition.disk_limit_bytes or self.tools.rules.disk_limit_bytes

    async def _deliver(self, event: Recognised, outcome: Outcome) -> Outcome:
        """Store what the script left, ship the rest of its log, make the answer."""
        done = outcome.reason is Reason.COMPLETED
        left, wanted = self.handling.left(self.place), self.definition.service.output
        files = await find_outputs(left, wanted, self.shipper.note) if done else []
        async with self._shipping_rest():
            outputs = await self._stage_out(files)
            result = await self._result(event, files, outcome)
        return replace(
            outcome,
            outputs=outputs,
            result=result.inline,
            result_ref=result.ref,
            log_tail=self.shipper.transcript.tail,
        )

    @contextlib.asynccontextmanager
    async def _shipping_rest(self) -> AsyncIterator[None]:
        """Ship the rest of the log beside the body; the failure of the body goes first."""
        if self.shipper.is_empty:
            yield
            return
        rest = asyncio.create_task(self.shipper.ship_rest(self.tools.rules.flush_timeout))
        try:
            yield
        finally:
            await rest

    async def _stage_out(self, files: list[OutputFile]) -> tuple[ArtifactRef, ...]:
        if not files:
            return ()
        return await stage_out(
            files,
            self.definition.service.output,
            invocation=self.invocation.id,
            stores=self.definition.stores,
            parallel=self.tools.rules.parallel_uploads,
        )

    async def _result(self, event: Recognised, files: list[OutputFile], outcome: Outcome) -> Result:
        """The answer of a direct call; empty for everything else, whose output is in its log."""
        if self.invocation.trigger != DIRECT_TRIGGER:
            return Result()
        results = Results(
            stores=self.definition.stores,
            system_bucket=self.tools.rules.system_bucket,
            limit_bytes=self.tools.rules.result_file_bytes,
        )
        of_files = files if event.artifact is None else []
        if outcome.result is not None:
            return await results.of_text(outcome.result, self.invocation.id, self.place)
        found = await results.of_files(of_files, self.invocation.id, self.place)
        return found or await results.of_text(self.shipper.transcript.text, self.invocation.id, self.place)


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
