"""A whole platform as a user starts it: `tidemill up` as a process, on free ports, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Platform:
    """A running platform, and the command to talk to it."""

    directory: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, *, port: int = 0) -> None:
        """`tidemill up`, until it says that it is ready."""
        log = self.directory.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*TIDEMILL, "up", "--dir", str(self.directory), "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")},
            )
        self.wait_ready(log)

    def wait_ready(self, log: Path, timeout: float = 100) -> None:
        """Return when `up` has recorded that everything answers."""
        deadline = time.monotonic() + timeout
        record = self.directory / "run" / "up.json"
        while time.monotonic() < deadline and self.process.poll() is None:
            found = json.loads(record.read_text()) if record.is_file() else {}
            if found.get("pid") == self.process.pid and found["ready"]:
                return
            time.sleep(0.05)
        raise AssertionError(f"it did not become ready: {log.read_text(errors='replace')[-4000:]}")

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """kill -9 of `up` alone; its children stay."""
        self.process.kill()
        self.process.wait()

    def children(self) -> dict[str, psutil.Process]:
        """The processes that run now, by name."""
        found = {}
        for path in (self.directory / "run").glob("*.json"):
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
                record = json.loads(path.read_text())
                found[record["name"]] = psutil.Process(record["pid"])
        found.pop("up", None)
        return found

    def child(self, name: str, *, other_than: int | None = None, timeout: float = 90) -> psutil.Process:
        """The process of this name, once it runs: one that died is started again."""
        deadline = time.monotonic() + timeout
        while (found := self.children().get(name)) is None or found.pid == other_than:
            assert time.monotonic() < deadline, f"{name} does not run\n{self.logs()}"
            time.sleep(0.05)
        return found

    @property
    def connection(self) -> dict[str, str]:
        """What a client needs."""
        found: dict[str, str] = json.loads((self.directory / "connection.json").read_text())
        return found

    def tidemill(self, *arguments: str | Path, code: int = 0, timeout: float = 60) -> str:
        """Run one command and return what it prints; it must exit with `code`."""
        done = subprocess.run(
            [*TIDEMILL, "--dir", str(self.directory), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, f"{arguments} exited with {done.returncode}: {said}\n{self.logs()}"
        return done.stdout.decode()

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """The same with `-o json`."""
        return json.loads(self.tidemill(*arguments, "-o", "json", code=code))

    def wait_for_invocations(self, service: str, count: int, timeout: float = 60) -> list[dict[str, Any]]:
        """The Invocations of a Service, when so many have ended."""
        deadline = time.monotonic() + timeout
        while True:
            found: list[dict[str, Any]] = self.json("invocations", "--service", service)
            ended = [one for one in found if one["phase"] in ("Succeeded", "Failed", "Cancelled")]
            if len(ended) >= count:
                return ended
            assert time.monotonic() < deadline, f"{service}: {found}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of every component, for a failure's message."""
        files = sorted((self.directory / "logs").rglob("*.log"))
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-1500:]}" for file in files)


TIDEMILL = (sys.executable, "-m", "tidemill")


@contextmanager
def running_platform(directory: Path) -> Iterator[Platform]:
    """A platform that is stopped at the end, and whatever it left behind is ended, also when the test fails."""
    platform = Platform(directory)
    try:
        platform.start()
        yield platform
    finally:
        try:
            platform.stop()
        finally:
            subprocess.run([*TIDEMILL, "down", "--dir", str(directory)], check=False, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of this module's own."""
    with running_platform(tmp_path_factory.mktemp("e2e") / "platform") as running:
        yield running


@pytest.fixture
def examples() -> Path:
    """The folder of example Services."""
    return _ROOT / "examples"
