"""Scripts in the user's own container, through the runner that is its process 1 (docs/internals.md).

The container is there before anything is leased and serves one script after the other. When it dies, what ran there
ends with the reason that the launcher tells, and the Worker after it, for it can take no more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from tidemill_common import runner
from tidemill_common.errors import UnavailableError
from tidemill_common.runner import Answer, Cleared, Ended, Failed, Ready, Started, Wiped
from tidemill_supervisor.channel import Channel
from tidemill_supervisor.domain.environment import DEFAULTS, Place
from tidemill_supervisor.ports import Command, ContainerEndedError, NoContainerError, Sink, StartError
from tidemill_supervisor.workspace import remove_tree

log = structlog.get_logger()

_READ_BYTES: Final = 256 * 1024
_CHECK_SECONDS: Final = 1.0
_VARIABLE_LIMIT_BYTES: Final = 128 * 1024
"""MAX_ARG_STRLEN of Linux."""
_ENVIRONMENT_LIMIT_BYTES: Final = 2 * 1024**2 - 64 * 1024
"""A quarter of the stack's usual limit (execve(2)), less what the image and the arguments may take."""
_POINTER_BYTES: Final = 8
_FATAL: Final = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
        *(signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGPIPE),
        *(signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS),
    }
)
"""Exit codes that a shell gives to these are read as the signal; a script that exits with one of them says the same."""

Why = Callable[[], Awaitable[ContainerEndedError]]
"""Says why the container has ended, after waiting a little for whoever knows."""


class ContainerScripts:
    """Runs scripts in the user container.

    Args:
        directory: The worker directory.
        why: Asked once, when the container has ended.
        timeout: How long to wait for the container; None: for ever.
    """

    def __init__(self, directory: Path, why: Why, *, timeout: timedelta | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._why = why
        self._timeout = timeout
        self._reason: asyncio.Task[ContainerEndedError] | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._fault: str | None = None
        self._number = 0
        self._kills = 0
        self._running: dict[int, ContainerScript] = {}
        self._wiping: dict[int, asyncio.Future[None]] = {}
        self._channel = Channel(directory, answer=self._take, lost=self._end)

    async def ready(self) -> None:
        """See the port."""
        try:
            async with asyncio.timeout(None if self._timeout is None else self._timeout.total_seconds()):
                await self._ready.wait()
        except TimeoutError as error:
            raise UnavailableError(f"wait for the user's container: it was not there after {self._timeout}") from error

    async def over(self) -> str:
        """See the port."""
        await self._over.wait()
        return self._fault or "its container has ended"

    def start(self, command: Command, place: Place, sink: Sink) -> ContainerScript:
        """See the port."""
        if self._over.is_set():
            raise NoContainerError(f"start {place.root.name}: its container has ended")
        _check_size(command)
        self._number += 1
        number = self._number
        try:
            self._channel.write_script(number, _script_file(command))
            output = self._channel.make_output(number)
        except OSError as error:
            self._channel.remove(number)
            raise StartError(f"start {command.arguments[0]}: {error}") from error
        script = self._running[number] = ContainerScript(number, output, place, sink, scripts=self)
        self.send(runner.run(number))
        return script

    def memory_kills(self) -> int:
        """See the port."""
        return self._kills

    async def wipe(self, workspace: Path) -> None:
        """See the port."""
        if self._ready.is_set() and self._channel.is_open and os.path.lexists(workspace):
            self._number += 1
            done = self._wiping[self._number] = self._loop.create_future()
            self.send(runner.wipe(self._number, workspace.name))
            await done
        await asyncio.to_thread(remove_tree, workspace)
        if os.path.lexists(workspace):
            self._condemn(f"{workspace.name} could not be removed")

    def close(self) -> None:
        """Let the container end."""
        self._channel.close()
        if self._reason is not None:
            self._reason.cancel()

    def send(self, command: bytes) -> None:
        """Tell the runner."""
        try:
            self._channel.send(command)
        except BlockingIOError:
            self._condemn("its container does not listen")

    def forget(self, number: int) -> None:
        """A run is over, and nothing of it is left."""
        del self._running[number]
        self._channel.remove(number)

    async def reason(self) -> ContainerEndedError:
        """Why the container has ended."""
        assert self._reason is not None
        return await asyncio.shield(self._reason)

    def _take(self, answer: Answer) -> None:
        match answer:
            case Ready(_, kills):
                self._count(kills)
                self._ready.set()
            case Wiped(number):
                if (done := self._wiping.pop(number, None)) is not None and not done.done():
                    done.set_result(None)
            case Started(number) | Failed(number) | Ended(number) | Cleared(number):
                if isinstance(answer, Ended | Cleared):
                    self._count(answer.memory_kills)
                if (script := self._running.get(number)) is not None:
                    script.take(answer)

    def _count(self, kills: int) -> None:
        self._kills = max(self._kills, kills)

    def _end(self) -> None:
        self._reason = self._loop.create_task(_asked(self._why))
        self._over.set()
        for script in self._running.values():
            script.lose()
        for done in self._wiping.values():
            if not done.done():
                done.set_result(None)

    def _condemn(self, fault: str) -> None:
        """The container is there, but nothing more may run in it."""
        self._fault = self._fault or fault
        self._over.set()


class ContainerScript:
    """One running script; see the port `Running`."""

    def __init__(self, number: int, output: int, place: Place, sink: Sink, *, scripts: ContainerScripts) -> None:
        self._number = number
        self._output = output
        self._place = place
        self._sink = sink
        self._scripts = scripts
        self._loop = asyncio.get_running_loop()
        self._pid: int | None = None
        self._waiting: list[signal.Signals] = []
        self._ended: asyncio.Future[int | StartError | None] = self._loop.create_future()
        self._cleared: asyncio.Future[None] = self._loop.create_future()
        self._is_read = False
        self._check: asyncio.TimerHandle | None = None
        self._loop.add_reader(output, self._read)

    async def wait(self) -> int:
        """See the port."""
        match await asyncio.shield(self._ended):
            case None:
                raise await self._scripts.reason()
            case StartError() as error:
                raise error
            case status:
                return status

    def signal(self, number: signal.Signals) -> None:
        """See the port. Before it has started it cannot be signalled, so that waits."""
        if self._ended.done():
            return
        if self._pid is None:
            self._waiting.append(number)
            return
        name = number.name.removeprefix("SIG")
        self._scripts.send(runner.signal(self._number, name, self._pid, self._place.root.name))

    async def clear(self) -> None:
        """See the port."""
        self._scripts.send(runner.clear(self._number, self._pid, self._place.root.name))
        await asyncio.shield(self._cleared)
        while not self._is_read and self._read():
            pass
        self._stop_reading()
        os.close(self._output)
        self._scripts.forget(self._number)

    def take(self, answer: Started | Failed | Ended | Cleared) -> None:
        """The runner has answered."""
        match answer:
            case Started(_, pid):
                self._begin(pid)
            case Failed(_, message):
                self._end(StartError(message))
            case Ended(_, code):
                self._end(_status(code))
            case Cleared():
                self._end(-signal.SIGKILL)  # it was killed, with whoever would have told
                if not self._cleared.done():
                    self._cleared.set_result(None)

    def lose(self) -> None:
        """The container has ended."""
        self._end(None)
        if not self._cleared.done():
            self._cleared.set_result(None)

    def _begin(self, pid: int) -> None:
        if self._pid is None:
            self._pid = pid
            for number in self._waiting:
                self.signal(number)

    def _end(self, how: int | StartError | None) -> None:
        """The first thing that is said counts."""
        if not self._ended.done():
            self._ended.set_result(how)
        if self._check is not None:
            self._check.cancel()

    def _read(self) -> bool:
        """Pass on what was written; False: nothing is there, or no more will come."""
        try:
            chunk = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._stop_reading()
            self._look()
            return False
        self._sink(chunk)
        return True

    def _stop_reading(self) -> None:
        if not self._is_read:
            self._is_read = True
            self._loop.remove_reader(self._output)

    def _look(self) -> None:
        """Nobody holds its output any more: it has ended, or closed it, or killed whoever would tell its end."""
        if self._ended.done():
            return
        if self._check is not None:
            self._scripts.send(runner.check(self._number))
        self._check = self._loop.call_later(_CHECK_SECONDS, self._look)


async def _asked(why: Why) -> ContainerEndedError:
    error = await why()
    log.warning("user container ended", reason=error.reason, message=str(error))
    return error


def _script_file(command: Command) -> bytes:
    return runner.script_file(
        command.arguments,
        environment=command.environment,
        defaults=DEFAULTS,
        directory=str(command.directory),
        file_limit_bytes=command.file_limit_bytes,
        memory_limit_bytes=command.memory_limit_bytes,
    )


def _check_size(command: Command) -> None:
    """What Linux would refuse: some shells tell that in no way that could be told from the script's own end."""
    sizes = {name: len(os.fsencode(f"{name}={value}")) + 1 for name, value in command.environment.items()}
    for name, size in sizes.items():
        if size > _VARIABLE_LIMIT_BYTES:
            raise StartError(f"start {command.arguments[0]}: the variable {name} is too large")
    if sum(sizes.values()) + _POINTER_BYTES * len(sizes) > _ENVIRONMENT_LIMIT_BYTES:
        raise StartError(f"start {command.arguments[0]}: its variables are too large together")


def _status(code: int) -> int:
    return 128 - code if code - 128 in _FATAL else code
