"""A script that starts once and answers one line for each Invocation (docs/resident.md).

It says `{"ready": true}` first; until then no Invocation is handed to it, so neither a deadline nor a cancellation ends
one that loads. While it handles an Invocation, whatever it writes is that Invocation's; what it wrote before is the
next one's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place, named, service_environment
from tidemill_supervisor.domain.outcome import Ended, Outcome, classify
from tidemill_supervisor.domain.protocol import REQUESTS, RESPONSES, is_ready
from tidemill_supervisor.domain.transcript import NOTE
from tidemill_supervisor.exchange import Exchange
from tidemill_supervisor.execution import Limits, grown_beyond, stop_script
from tidemill_supervisor.ports import Command, Scripts, Sink
from tidemill_supervisor.processes import interpreter_of
from tidemill_supervisor.workspace import furnish, is_disk_full, remove_tree

_LINE_LIMIT_BYTES: Final = 16 * 1024**2
_UNCLAIMED_BYTES: Final = 64 * 1024
_SHOWN_BYTES: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Why a script gives no answer."""

    reason: Reason | None = None
    """None: it ended by itself."""
    message: str | None = None
    is_unread: bool = False
    """It ended by itself, and had not read the request: the Invocation is not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one resident script may take."""

    file_bytes: int | None
    memory_bytes: int | None
    grace: timedelta


class Resident:
    """One such script, from its start to its end.

    Args:
        library: Where `tidemill_resident.py` is.

    Raises:
        StartError: It cannot be started.
        OSError: Its workspace cannot be made.
    """

    def __init__(self, scripts: Scripts, definition: Definition, place: Place, bounds: Bounds, library: Path) -> None:
        self.revision = definition.revision
        self.unclaimed = bytearray()
        """What it wrote while it handled nothing."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._scripts = scripts
        self._place = place
        self._grace = bounds.grace
        self._sink: Sink | None = None
        self._ready: asyncio.Future[Stopped | None] = self._loop.create_future()
        self._turn: asyncio.Future[bytes | Stopped] | None = None
        self._is_spoilt = False
        self._stopping: asyncio.Task[int] | None = None
        self._kills = scripts.memory_kills()
        furnish(place, script=definition.service.script, event=b"")
        self._exchange = Exchange(place.root, self._hear, line_limit_bytes=_LINE_LIMIT_BYTES)
        try:
            self._running = scripts.start(self._command(definition, bounds, library), place, self._take)
        except BaseException:
            self._exchange.close()
            remove_tree(place.root)
            raise
        self._ended = asyncio.create_task(self._running.wait())
        self._ended.add_done_callback(lambda _: self._settle(Stopped()))

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked."""
        return not (self._ended.done() or self._is_spoilt or self._stopping is not None)

    @property
    def was_ready(self) -> bool:
        """Whether it has loaded."""
        return self._ready.done() and self._ready.result() is None

    @contextlib.contextmanager
    def writing_to(self, sink: Sink) -> Iterator[None]:
        """Give what it writes, and what it wrote since nobody wanted it, to `sink`."""
        if self.unclaimed:
            sink(bytes(self.unclaimed))
            self.unclaimed.clear()
        self._sink = sink
        try:
            yield
        finally:
            self._sink = None

    async def loaded(self, patience: timedelta) -> Stopped | None:
        """Wait until it is ready; why it never will be, or None. It may take `patience` from its start on."""
        if self._ready.done():
            return self._ready.result()
        try:
            async with asyncio.timeout_at(self._started + patience.total_seconds()):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            message = f'it did not write {{"ready": true}} to {RESPONSES} within {patience}'
            return Stopped(reason=Reason.START_FAILED, message=message)

    async def ask(self, line: bytes, limits: Limits, workspace: Path) -> bytes | Stopped:
        """Its answer; cancelled, or without an answer, it has to be stopped."""
        if self._ended.done():
            return Stopped(is_unread=True)
        turn = self._turn = self._loop.create_future()
        self._exchange.send(line)
        with _limited(limits, workspace, self._settle):
            try:
                heard: bytes | Stopped = await turn
            finally:
                self._turn = None
        if isinstance(heard, Stopped) and heard.reason is None:
            return Stopped(is_unread=self._exchange.is_untouched)
        return heard

    async def stop(self) -> int:
        """End it, with all that it started, and return its status; repeats are one."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        return await asyncio.shield(self._stopping)

    def outcome(self, stopped: Stopped, status: int, limits: Limits) -> Outcome:
        """Of the Invocation that it did not answer."""
        if stopped.message is not None:
            return Outcome(reason=stopped.reason or Reason.SCRIPT_FAILED, message=stopped.message)
        ended = Ended(
            status=status,
            stopped_for=stopped.reason,
            out_of_memory=self._scripts.memory_kills() > self._kills,
            disk_full=status != 0 and is_disk_full(self._place.root.parent),
        )
        outcome = classify(ended, timeout=limits.timeout, disk_limit_bytes=limits.disk_bytes)
        if outcome.reason is Reason.COMPLETED:
            outcome = replace(outcome, reason=Reason.SCRIPT_FAILED)
        when = "without an answer" if self.was_ready else 'before it said {"ready": true}'
        return outcome if stopped.reason is not None else replace(outcome, message=f"{_text(outcome)}, {when}")

    async def _stop(self) -> int:
        try:
            if not self._ended.done():
                await stop_script(self._running, self._grace)
            status = await self._ended
        finally:
            await self._running.clear()
            self._exchange.close()
        await self._scripts.wipe(self._place.root)
        return status

    def _command(self, definition: Definition, bounds: Bounds, library: Path) -> Command:
        service, place = definition.service, self._place
        environment = service_environment(
            service,
            secrets=definition.secrets,
            place=place,
            fixed={
                REQUESTS: str(self._exchange.requests),
                RESPONSES: str(self._exchange.responses),
                **named(place),
            },
        )
        paths = [str(library), *filter(None, [environment.get("PYTHONPATH")])]
        return Command(
            arguments=interpreter_of(service.script, place.script),
            environment={**environment, "PYTHONPATH": ":".join(paths)},
            directory=place.root,
            file_limit_bytes=bounds.file_bytes,
            memory_limit_bytes=bounds.memory_bytes,
        )

    def _take(self, chunk: bytes) -> None:
        if self._sink is not None:
            self._sink(chunk)
            return
        self.unclaimed += chunk
        del self.unclaimed[:-_UNCLAIMED_BYTES]

    def _hear(self, line: bytes) -> None:
        if not self._ready.done():
            self._ready.set_result(None if is_ready(line) else _unready(line))
        elif self._turn is not None and not self._turn.done():
            self._turn.set_result(line)
        else:
            self._is_spoilt = True
            self._take(f"{NOTE}it answered what nobody asked, and is started again: {line[:_SHOWN_BYTES]!r}\n".encode())

    def _settle(self, stopped: Stopped) -> None:
        if not self._ready.done():
            self._ready.set_result(stopped)
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(stopped)


def _unready(line: bytes) -> Stopped:
    said = line[:_SHOWN_BYTES].decode("utf-8", "replace")
    message = f'its first line on {RESPONSES} must be {{"ready": true}}, not {said!r}'
    return Stopped(reason=Reason.SCRIPT_FAILED, message=message)


def _text(outcome: Outcome) -> str:
    return outcome.message or f"exit code {outcome.exit_code}"


@contextlib.contextmanager
def _limited(limits: Limits, workspace: Path, reached: Callable[[Stopped], None]) -> Iterator[None]:
    """Tell when the body's time is over, or the workspace is too large; short bodies cost next to nothing."""
    loop = asyncio.get_running_loop()
    ends: list[Callable[[], object]] = []

    def watch(limit: int) -> None:
        task = loop.create_task(grown_beyond(workspace, limit, limits.scan_interval))
        task.add_done_callback(lambda done: None if done.cancelled() else reached(Stopped(reason=Reason.DISK_LIMIT)))
        ends.append(task.cancel)

    if limits.timeout is not None:
        seconds = max(limits.timeout.total_seconds(), 0)
        ends.append(loop.call_later(seconds, reached, Stopped(reason=limits.timeout_reason)).cancel)
    if limits.disk_bytes is not None:
        ends.append(loop.call_later(limits.scan_interval.total_seconds(), watch, limits.disk_bytes).cancel)
    try:
        yield
    finally:
        for end in ends:
            end()
