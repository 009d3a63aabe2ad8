"""Who runs now: process records that survive us, so that nothing is left behind when `up` itself is killed.

A record has the process's pid and its creation time; a pid that was given to another process is never signalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from pydantic import BaseModel, ConfigDict

from tidemill.platform.layout import Layout, read_model, write_private

UP: Final = "up"
"""Name of the record of `tidemill up` itself."""
_WORKER_MARK: Final = "TIDEMILL_SUPERVISOR_SECRETS_DIR"


class ProcessRecord(BaseModel):
    """One process."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    created: float
    ready: bool = False

    @classmethod
    def of(cls, name: str, pid: int, *, ready: bool = False) -> ProcessRecord:
        """The record of a process that runs now.

        Raises:
            psutil.NoSuchProcess: It has ended already.
        """
        return cls(name=name, pid=pid, created=psutil.Process(pid).create_time(), ready=ready)

    def process(self) -> psutil.Process | None:
        """The process, if it is still this one and no zombie."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.created) < 0.5 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if same else None


def record_path(layout: Layout, name: str) -> Path:
    """Where the record of one process is."""
    return layout.run / f"{name}.json"


def write_record(layout: Layout, record: ProcessRecord) -> None:
    """Keep it."""
    write_private(record_path(layout, record.name), record.model_dump_json())


def read_record(layout: Layout, name: str) -> ProcessRecord | None:
    """The record of one process; None: there is none."""
    return read_model(record_path(layout, name), ProcessRecord)


def forget(layout: Layout, name: str) -> None:
    """Remove a record."""
    record_path(layout, name).unlink(missing_ok=True)


def running_up(layout: Layout) -> ProcessRecord | None:
    """The record of the `tidemill up` that runs on this directory now."""
    record = read_record(layout, UP)
    return record if record is not None and record.process() is not None else None


@contextlib.contextmanager
def only_one(layout: Layout) -> Iterator[bool]:
    """Hold the directory's lock; yields False when another process holds it. The kernel frees it when we die."""
    descriptor = os.open(layout.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def end_leftovers(layout: Layout, *, patience_seconds: float = 8) -> list[str]:
    """End children of an earlier `up` that was killed, and Workers of this directory; returns their names."""
    names: list[str] = []
    processes: list[psutil.Process] = []
    for path in sorted(layout.run.glob("*.json")):
        record = read_model(path, ProcessRecord)
        process = record.process() if record is not None else None
        if record is not None and process is not None and record.name != UP:
            names.append(record.name)
            processes.append(process)
        path.unlink(missing_ok=True)
    workers = workers_of(layout)
    end_processes([*processes, *workers], patience_seconds)
    return names + ["worker"] * len(workers)


def workers_of(layout: Layout) -> list[psutil.Process]:
    """Workers of this platform that run now, whoever started them."""
    mine = str(layout.secrets.resolve())
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "tidemill_supervisor" not in (process.info["cmdline"] or []):
            continue
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_WORKER_MARK) == mine:
                found.append(process)
    return found


def end_processes(processes: list[psutil.Process], patience_seconds: float) -> None:
    """SIGTERM, and SIGKILL to the whole group of what is still there after that time."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=patience_seconds)
    for process in alive:
        kill_group(process.pid)
    psutil.wait_procs(alive, timeout=2)


def kill_group(pid: int) -> None:
    """SIGKILL to a process that leads a group of its own, and to the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
