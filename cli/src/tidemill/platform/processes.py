"""Child processes that are started again when they die, and end in order when the platform stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil

from tidemill.errors import CliError
from tidemill.platform.layout import Layout
from tidemill.platform.policy import RestartPolicy
from tidemill.platform.records import ProcessRecord, forget, kill_group, write_record

Tell = Callable[[str, str], None]
"""Says one line (about a child, what) to whoever watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process of the platform."""

    name: str
    command: Callable[[], list[str]]
    """The command line; called before each start (servers write their configuration file then)."""
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    stop_timeout: timedelta
    """How long it may take to end after SIGTERM."""
    ready_timeout: timedelta = timedelta(seconds=40)


class Child:
    """One process, kept running until `stop`."""

    def __init__(self, spec: ChildSpec, layout: Layout, *, tell: Tell, policy: RestartPolicy | None = None) -> None:
        self.spec = spec
        self._layout = layout
        self._tell = tell
        self._policy = policy or RestartPolicy()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.starts = 0

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._layout.logs / f"{self.spec.name}.log"

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Keep it running from now on."""
        self._task = asyncio.create_task(self._keep_running(), name=f"child-{self.spec.name}")

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                break
            failures = self._policy.failures(failures, timedelta(seconds=time.monotonic() - began))
            delay = self._policy.delay(failures)
            self._tell(self.spec.name, f"ended ({_how(code)}); starts again in {delay.total_seconds():g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay.total_seconds())

    async def _run_once(self) -> int:
        # A file, not a pipe: a child goes on working when we are killed, and its last words are kept.
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.spec.environment),
                start_new_session=True,  # Ctrl-C on the terminal is for us alone; we stop children in order
            )
        self.starts += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            write_record(self._layout, ProcessRecord.of(self.spec.name, self._process.pid))
        code = await self._process.wait()
        self._process = None
        forget(self._layout, self.spec.name)
        return code

    async def wait_ready(self) -> None:
        """Return when it answers.

        Raises:
            CliError: It does not within its time; with its last words.
        """
        deadline = time.monotonic() + self.spec.ready_timeout.total_seconds()
        while time.monotonic() < deadline and self.starts < 4:
            if self._process is not None and await self.spec.ready():
                return
            await asyncio.sleep(0.05)
        why = "keeps ending" if self.starts >= 4 else "does not answer"
        raise CliError(f"{self.spec.name} {why}; its last lines ({self.log}):\n{tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM; start it no more."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL now, to it and its group."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            kill_group(self._process.pid)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_timeout`; returns when it has ended."""
        if self._task is None:
            return
        self.ask_to_stop()
        done, _ = await asyncio.wait({self._task}, timeout=self.spec.stop_timeout.total_seconds())
        if not done:
            self._tell(self.spec.name, f"did not end within {self.spec.stop_timeout.total_seconds():g} s: killed")
            self.kill()
        await self._task


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no output)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (no output)"


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
