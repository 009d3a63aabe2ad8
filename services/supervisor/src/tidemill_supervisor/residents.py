"""The resident scripts of one Worker, one for each slot, and how Invocations are put to them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from tidemill_common.contracts.invocation import Reason
from tidemill_common.contracts.service import Service
from tidemill_common.errors import TidemillError
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place, event_text
from tidemill_supervisor.domain.events import Recognised
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.protocol import Answer, Assignment, ProtocolError, answer_of, request
from tidemill_supervisor.execution import Limits, time_limit
from tidemill_supervisor.ports import Clock, Scripts, Sink, StartError
from tidemill_supervisor.resident import Bounds, Resident, Stopped
from tidemill_supervisor.staging import Left, everything
from tidemill_supervisor.workspaces import Workspaces, make

log = structlog.get_logger()
A = TypeVar("A", bound=Answer)
T = TypeVar("T")

HELPER: Final = Path(__file__).with_name("user_code") / "tidemill_resident.py"
_RECENT: Final = 0.2
"""How much the newest Invocation counts in the mean time that one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What an operator fixed for resident scripts."""

    clock: Clock
    grace: timedelta
    load_timeout: timedelta
    """From its start until it is ready."""
    enforce_memory: bool = False
    disk_limit_bytes: int | None = None
    """Where the Service has none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[A]):
    """One line, and how its answer is read."""

    line: bytes
    read: Callable[[bytes], A]
    definition: Definition
    limits: Limits
    deadline: datetime | None
    workspace: Path
    sink: Sink


class Residents:
    """Starts them when they are first needed, and again when they ended; the port `Handling`."""

    def __init__(self, scripts: Scripts, workspaces: Workspaces, pattern: Place, manner: Manner, *, slots: int) -> None:
        """`pattern`: a place in the Worker's directory; each script gets one of its own beside it."""
        self._manner = manner
        self._workspaces = workspaces
        self._library = pattern.root.parent / "python"
        _install(self._library)
        self._seats = [_Seat(scripts, pattern, manner, self._library, number) for number in range(slots)]
        self._free = list(reversed(self._seats))
        self._waiting: deque[asyncio.Future[_Seat]] = deque()
        self.mean_seconds: float | None = None
        """How long one Invocation keeps a script busy; None: not known yet."""

    def warm(self, definition: Definition) -> None:
        """Start all of them; one that cannot be started is tried again when it is needed."""
        for seat in self._seats:
            seat.renew(definition)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(seat.close() for seat in self._seats))

    def furnish(self, place: Place, service: Service, event: Recognised) -> None:
        """See the port."""
        make(place)
        if event_text(event.raw) is None:
            place.event_file.write_bytes(event.raw)

    def needs_input(self, event: Recognised) -> bool:
        """Only when there is any."""
        return bool(event.content)

    def left(self, place: Place) -> Left:
        """See the port."""
        return everything(place)

    async def clear(self, place: Place) -> None:
        """See the port."""
        await self._workspaces.give(place)

    async def run(self, assignment: Assignment, definition: Definition, limits: Limits, sink: Sink) -> Outcome:
        """See the port."""
        identity = assignment.invocation.id
        question = Question(
            line=request(assignment, timeout=definition.service.timeout),
            read=lambda line: answer_of(line, identity),
            definition=definition,
            limits=limits,
            deadline=assignment.invocation.event.deadline,
            workspace=assignment.place.root,
            sink=sink,
        )
        answer = await self.ask(question)
        return answer if isinstance(answer, Outcome) else outcome_of(answer)

    async def ask(self, question: Question[A]) -> A | Outcome:
        """The answer of whichever script is free first; or how it ended without one."""
        try:
            seat = await _in_time(self._take(), question, self._manner.clock)
        except TimeoutError:
            return _late("was busy")
        begun = time.monotonic()
        try:
            return await seat.ask(question)
        finally:
            self._give(seat)
            self._remember(time.monotonic() - begun)

    async def _take(self) -> _Seat:
        """The next free one, first come, first served."""
        if self._free:
            return self._free.pop()
        turn: asyncio.Future[_Seat] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(turn.result())
            raise

    def _give(self, seat: _Seat) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(seat)
                return
        self._free.append(seat)

    def _remember(self, seconds: float) -> None:
        mean = seconds if self.mean_seconds is None else self.mean_seconds
        self.mean_seconds = mean + _RECENT * (seconds - mean)


class _Seat:
    """Room for one resident script, and the one that has it."""

    def __init__(self, scripts: Scripts, pattern: Place, manner: Manner, library: Path, number: int) -> None:
        self._scripts = scripts
        self._pattern = pattern
        self._manner = manner
        self._library = library
        self._names = (f"resident-{number}-{generation}" for generation in itertools.count(1))
        self._resident: Resident | None = None

    async def ask(self, question: Question[A]) -> A | Outcome:
        """Put it to the script; again to a new one if the old one ended without having read it."""
        found = await self._try(question)
        if isinstance(found, Stopped):
            found = await self._try(question)
        return Outcome(reason=Reason.START_FAILED, message=found.message) if isinstance(found, Stopped) else found

    def renew(self, definition: Definition) -> None:
        """Start one in place of what was here, if that is possible now."""
        try:
            self._start(definition)
        except (TidemillError, OSError) as error:
            log.warning("resident script not started", service=definition.service.name, error=str(error))

    async def close(self) -> None:
        """End it."""
        if self._resident is not None:
            with contextlib.suppress(TidemillError):  # it ended with its container
                await self._resident.stop()

    def _start(self, definition: Definition) -> Resident:
        place = replace(self._pattern, root=self._pattern.root.with_name(next(self._names)))
        bounds = Bounds(
            file_bytes=definition.disk_limit_bytes or self._manner.disk_limit_bytes,
            memory_bytes=definition.memory_bytes if self._manner.enforce_memory else None,
            grace=self._manner.grace,
        )
        started = Resident(self._scripts, definition, place, bounds, self._library)
        if self._resident is not None:
            started.unclaimed[:0] = self._resident.unclaimed
        self._resident = started
        return started

    async def _current(self, definition: Definition) -> Resident:
        found = self._resident
        if found is not None and found.is_usable and found.revision >= definition.revision:
            return found
        await self.close()
        return self._start(definition)

    async def _try(self, question: Question[A]) -> A | Outcome | Stopped:
        """The answer, or how it ended; `Stopped`: the script ended before it had read the request."""
        try:
            resident = await self._current(question.definition)
        except (StartError, OSError) as error:
            return Outcome(reason=Reason.START_FAILED, message=str(error))
        with resident.writing_to(question.sink):
            try:
                loading = resident.loaded(self._manner.load_timeout)
                stopped = await _in_time(loading, question, self._manner.clock)
            except TimeoutError:
                return _late("was loading")
            limits = self._limits(question)
            heard = await self._put(resident, question, limits) if stopped is None else stopped
            if not isinstance(heard, Stopped):
                return heard
            try:
                status = await resident.stop()
            except StartError as error:
                return Outcome(reason=Reason.START_FAILED, message=str(error))
        self._replace(resident, question.definition)
        return heard if heard.is_unread else resident.outcome(heard, status, limits)

    async def _put(self, resident: Resident, question: Question[A], limits: Limits) -> A | Stopped:
        try:
            heard = await resident.ask(question.line, limits, question.workspace)
        except asyncio.CancelledError:
            await resident.stop()
            self._replace(resident, question.definition)
            raise
        if isinstance(heard, Stopped):
            return heard
        try:
            return question.read(heard)
        except ProtocolError as error:
            return Stopped(reason=Reason.SCRIPT_FAILED, message=str(error))

    def _replace(self, resident: Resident, definition: Definition) -> None:
        """Start the next one at once, so that it has loaded when it is needed; unless it would only end again."""
        if resident.was_ready:
            self.renew(definition)

    def _limits(self, question: Question[A]) -> Limits:
        if question.deadline is None:
            return question.limits
        timeout, reason = time_limit(question.definition.service.timeout, question.deadline, self._manner.clock())
        return replace(question.limits, timeout=timeout, timeout_reason=reason)


def outcome_of(answer: Answer) -> Outcome:
    """What an answer means for its Invocation."""
    result = None if answer.result is None else answer.result.encode("utf-8", "surrogatepass")
    if answer.exit_code == 0:
        return Outcome(reason=Reason.COMPLETED, exit_code=0, result=result)
    message = answer.message or f"exit code {answer.exit_code}"
    return Outcome(reason=Reason.SCRIPT_FAILED, exit_code=answer.exit_code, message=message, result=result)


async def _in_time(work: Coroutine[object, object, T], question: Question[A], clock: Clock) -> T:
    """What `work` returns; TimeoutError when the question's deadline is earlier."""
    if question.deadline is None:
        return await work
    async with asyncio.timeout(max((question.deadline - clock()).total_seconds(), 0)):
        return await work


def _late(why: str) -> Outcome:
    return Outcome(reason=Reason.DEADLINE_PASSED, message=f"its deadline passed while the resident script {why}")


def _install(library: Path) -> None:
    library.mkdir(exist_ok=True)
    library.chmod(0o755)
    shutil.copyfile(HELPER, library / HELPER.name)
    (library / HELPER.name).chmod(0o644)
