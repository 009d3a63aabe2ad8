"""Processes of this machine: named beyond reuse of their pid, watched without polling, ended with all they left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill_common.contracts.contract import WorkerId

MARK: Final = "TIDEMILL_WORKER"
"""Environment variable with the Worker's id, inherited by everything that it starts."""
_PROC: Final = Path("/proc")
_SWEEPS: Final = 50
"""A process that forks faster than it can be found gets this many rounds."""
_PAUSE_SECONDS: Final = 0.005
"""What was killed takes a moment to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process for ever: a pid alone comes back."""

    pid: int
    start_ticks: int
    """When it started, in clock ticks since boot."""
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this pid now.

        Raises:
            ProcessLookupError: None has.
        """
        return cls(pid=pid, start_ticks=_start_ticks(pid), boot_id=_boot_id())

    def open(self) -> int:
        """A pidfd of it.

        Raises:
            ProcessLookupError: It has ended.
        """
        descriptor = os.pidfd_open(self.pid)
        with contextlib.suppress(ProcessLookupError):
            if self == ProcessId.of(self.pid):
                return descriptor
        os.close(descriptor)
        raise ProcessLookupError(f"process {self.pid} has ended")


async def wait_for_exit(pidfd: int) -> None:
    """Return when the process has ended; it need not be our child."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)


def reap(pidfd: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of an ended child; both None: it is not our child, so nobody can say."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None, None
    if status is None:
        return None, None
    return (status.si_status, None) if status.si_code == os.CLD_EXITED else (None, status.si_status)


def signal_process(pidfd: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended is success."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def kill_leftovers(worker: WorkerId, session: int | None) -> int:
    """Kill every process with the Worker's mark, and its session; return how many were found.

    Repeats until none is left, because they may fork meanwhile. Blocking: call it in a thread.
    """
    found: set[int] = set()
    for _ in range(_SWEEPS):
        left = list(_leftovers(worker, session))
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found.update(left)
        time.sleep(_PAUSE_SECONDS)
    return len(found)


def _leftovers(worker: WorkerId, session: int | None) -> Iterator[int]:
    mark = f"{MARK}={worker}".encode()
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError):  # it ended while we looked, or belongs to somebody else
            fields = _stat(pid)
            if fields[0] in ("Z", "X"):
                continue
            if (session is not None and int(fields[3]) == session) or mark in (
                (_PROC / entry.name / "environ").read_bytes().split(b"\0")
            ):
                yield pid


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the third (state) on; the second, the name, may contain anything."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return text.rpartition(")")[2].split()


def _start_ticks(pid: int) -> int:
    return int(_stat(pid)[19])


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
