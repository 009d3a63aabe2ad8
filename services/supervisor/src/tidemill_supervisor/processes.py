"""Scripts as processes of this machine: started fast, and gone with everything they started.

A script leads a session of its own. When it ends, its process group is killed; what left the group (`setsid`) becomes
our child, because we are a subreaper, and is found by the mark in its environment. If we are killed ourselves, the
guardian does the same. Spawning is `vfork`, so it takes well under a millisecond whatever our size.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from tidemill_supervisor.domain.environment import DEFAULTS, WORKSPACE, Place
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.ports import Command, Sink, StartError
from tidemill_supervisor.workspace import remove_tree

_PR_SET_CHILD_SUBREAPER: Final = 36
_READ_BYTES: Final = 256 * 1024
_CLEAR_ROUNDS: Final = 200
_CLEAR_PAUSE_SECONDS: Final = 0.01


def interpreter_of(script: str, path: Path) -> list[str]:
    """How to run a script: by its `#!` line as the kernel would, else by `/bin/sh`.

    The line is read here, not by the kernel: it works where files cannot be executed (noexec), and a missing
    interpreter is told from a missing script.
    """
    first = script.partition("\n")[0]
    words = first[2:].strip().split(None, 1) if first.startswith("#!") else []
    return [*(word.strip() for word in words), str(path)] if words else ["/bin/sh", str(path)]


class ProcessScripts:
    """Runs scripts as processes."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._running: dict[int, ProcessScript] = {}
        self._become_subreaper()
        self._others = frozenset(_children())  # of whoever embeds us; none in a Worker but the guardian
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # ours would hold keys; scripts inherit it

    def start(self, command: Command, place: Place, sink: Sink) -> ProcessScript:
        """See the port."""
        _check_interpreter(command)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**DEFAULTS, **command.environment},
                cwd=command.directory,
                start_new_session=True,
                close_fds=True,
            )
        except (OSError, ValueError) as error:
            os.close(read_end)
            raise StartError(f"start {command.arguments[0]}: {error}") from error
        finally:
            os.close(write_end)
        _limit(process.pid, command)
        script = ProcessScript(process, read_end, sink, scripts=self, place=place)
        self._running[process.pid] = script
        self._guardian.watch(process.pid)
        return script

    async def ready(self) -> None:
        """See the port: at once."""

    async def over(self) -> str:
        """See the port: never."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def memory_kills(self) -> int:
        """See the port."""
        return _memory_kills()

    async def wipe(self, workspace: Path) -> None:
        """See the port."""
        await asyncio.to_thread(remove_tree, workspace)

    def forget(self, pid: int) -> None:
        """A script and all its processes are gone."""
        del self._running[pid]
        self._guardian.unwatch(pid)

    def strangers(self, place: Place) -> list[int]:
        """Children of ours that one script left behind; those that ended already are reaped on the way.

        A process that wiped its environment cannot be told apart; it counts as this script's when no other runs.
        """
        found = []
        for pid in _children():
            if pid in self._running or pid in self._others or pid == self._guardian.pid or _reaped(pid):
                continue
            mark = _attempt_of(pid)
            if mark == _mark_of(place) or (mark is None and len(self._running) <= 1):
                found.append(pid)
        return found

    @staticmethod
    def _become_subreaper() -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class ProcessScript:
    """One running script; see the port `Running`."""

    def __init__(
        self, process: subprocess.Popen[bytes], output: int, sink: Sink, *, scripts: ProcessScripts, place: Place
    ) -> None:
        self._process = process
        self._output: int | None = output
        self._sink = sink
        self._scripts = scripts
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._handle: int | None = os.pidfd_open(process.pid)
        os.set_blocking(output, False)
        self._loop.add_reader(output, self._read)
        self._loop.add_reader(self._handle, self._reap)

    async def wait(self) -> int:
        """See the port."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """See the port."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    async def clear(self) -> None:
        """See the port."""
        self.signal(signal.SIGKILL)
        await asyncio.shield(self._ended)
        for _ in range(_CLEAR_ROUNDS):
            if not self._kill_leftovers():
                break
            await asyncio.sleep(_CLEAR_PAUSE_SECONDS)
        while self._output is not None and self._read():
            pass
        self._close_output()
        self._scripts.forget(self._process.pid)

    def _kill_leftovers(self) -> bool:
        """Kill what is left; False: nothing was."""
        strangers = self._scripts.strangers(self._place)
        for pid in strangers:
            _kill_tree(pid)
        self.signal(signal.SIGKILL)
        return bool(strangers) or _group_exists(self._process.pid)

    def _reap(self) -> None:
        """The script's first process ended: end its group while its id cannot be taken by another, then reap it."""
        assert self._handle is not None
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        self._handle = None
        self.signal(signal.SIGKILL)
        self._ended.set_result(self._process.wait())

    def _read(self) -> bool:
        """Pass on what was written; False: nothing is there, or no more will come."""
        assert self._output is not None
        try:
            chunk = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._close_output()
            return False
        self._sink(chunk)
        return True

    def _close_output(self) -> None:
        if self._output is not None:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = None


def _check_interpreter(command: Command) -> None:
    """`env` finds its program after it was started; a missing one would look like the script's own exit code 127."""
    program = command.arguments[1] if len(command.arguments) > 2 else ""
    if Path(command.arguments[0]).name != "env" or not program or program.startswith("-") or "=" in program:
        return
    if shutil.which(program.split()[0], path=command.environment.get("PATH", DEFAULTS["PATH"])) is None:
        raise StartError(f"start {program}: no such program on PATH")


def _limit(pid: int, command: Command) -> None:
    """Limits of one script. After the start: setting them in the child would need `fork` in place of `vfork`."""
    limits = {resource.RLIMIT_FSIZE: command.file_limit_bytes, resource.RLIMIT_AS: command.memory_limit_bytes}
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for what, limit in limits.items():
            if limit is not None:
                resource.prlimit(pid, what, (limit, limit))


def _children() -> list[int]:
    """Our direct children, zombies included."""
    return [child for thread in os.listdir("/proc/self/task") for child in _children_of("self", thread)]


def _children_of(pid: int | str, thread: int | str) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    except FileNotFoundError:  # the process is gone, or the kernel was built without CONFIG_PROC_CHILDREN
        return _children_by_scan(os.getpid() if pid == "self" else int(pid))
    except OSError:
        return []


def _children_by_scan(parent: int) -> list[int]:
    stats = {int(path.parent.name): _stat(path) for path in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, fields in stats.items() if fields[1:2] == [str(parent)]]


def _stat(path: Path) -> list[str]:
    """State, parent and so on of a process; empty: it is gone."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _kill_tree(pid: int) -> None:
    """Kill a process and what it started; stopped first, so that it cannot start more meanwhile."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
        for child in _children_of(pid, pid):
            _kill_tree(child)
        os.kill(pid, signal.SIGKILL)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _mark_of(place: Place) -> tuple[str, str]:
    return place.mark, place.root.name


def _attempt_of(pid: int) -> tuple[str, str] | None:
    """(mark of the Worker, name of the script's workspace) in the environment of a process; None: not there."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)
    if "TIDEMILL_MARK" not in found:
        return None
    attempt = f"{found.get('TIDEMILL_INVOCATION_ID')}-{found.get('TIDEMILL_ATTEMPT')}"
    return found["TIDEMILL_MARK"], found.get(WORKSPACE, attempt).removesuffix(".")


@functools.cache
def _memory_counter() -> Path | None:
    """The file with the counter `oom_kill` of our memory group, in both versions of the kernel's interface."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if controllers == "memory":
            candidates = [
                f"/sys/fs/cgroup/memory{group}/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",
            ]
        else:
            candidates = [f"/sys/fs/cgroup{group}/memory.events"] if not controllers else []
        for file in map(Path, candidates):
            if any(line.startswith("oom_kill ") for line in _lines(file)):
                return file
    return None


def _memory_kills() -> int:
    """The counter; 0: there is none."""
    file = _memory_counter()
    found = [line for line in _lines(file) if line.startswith("oom_kill ")] if file else []
    return int(found[0].split()[1]) if found else 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
