"""A whole platform for tests: `tidemill up` in a directory of its own, on free ports, ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tests.clients import every_invocation, own_store
from tidemill_common.storage import ObjectStore

COMPONENTS: Final = ("gateway", "storage-bridge", "scheduler")
SERVERS: Final = ("nats", "seaweedfs")


@dataclass
class Platform:
    """One running platform."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)
    connection: dict[str, str] = field(init=False)

    def start(self, *, timeout: float = 100) -> None:
        """Run `tidemill up` and wait until the API answers."""
        log = self.directory.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidemill", "up", "--dir", str(self.directory), "--port", "0"],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        connection = self.directory / "connection.json"

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"tidemill up ended: {log.read_text(errors='replace')[-3000:]}")
            if not connection.exists():
                return False
            self.connection = json.loads(connection.read_text())
            with contextlib.suppress(httpx.HTTPError):
                return self.api("GET", "/v1/accounts").status_code == 200
            return False

        wait_until(ready, "the platform is ready", timeout=timeout)

    def stop(self) -> None:
        """Ctrl-C; whatever is left after 20 s is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def processes(self) -> list[psutil.Process]:
        """Every live process of this platform but `up`: its directory is in the command line or environment."""
        mark, found = str(self.directory), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                text = " ".join([*process.cmdline(), *process.environ().values()])
                if mark in text and process.pid not in (self.process.pid, os.getpid()):
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The Workers' supervisors."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "tidemill_supervisor" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def pid(self, name: str) -> int:
        """The process of one component or server, as `up` recorded it."""
        return int(json.loads((self.directory / "run" / f"{name}.json").read_text())["pid"])

    def kill(self, name: str) -> None:
        """kill -9 of one component, server or (`worker`) of one Worker; nothing when it is down already."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess, IndexError):
            if name == "worker":
                self.workers()[0].kill()
            else:
                os.kill(self.pid(name), signal.SIGKILL)

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request: as the administrator, unless it brings an Authorization header."""
        bearer = "Authorization" in options.get("headers", {})
        auth = None if bearer else (self.connection["username"], self.connection["password"])
        return httpx.request(method, self.connection["endpoint"] + path, auth=auth, **{"timeout": 30, **options})

    def patiently(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The same, again and again while the gateway is down, at most a minute."""
        answer: list[httpx.Response] = []

        def asked() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                answer[:] = [self.api(method, path, **options)]
                return answer[0].status_code < 500
            return False

        wait_until(asked, f"{method} {path} is answered", show=lambda: [(one, one.text) for one in answer])
        return answer[0]

    def apply(self, service: Mapping[str, Any]) -> str:
        """Create a Service; returns its token."""
        answer = self.patiently("POST", "/system/services", json={"image": "none", **service})
        assert answer.status_code == 201, answer.text
        return str(self.patiently("GET", f"/system/services/{service['name']}").json()["token"])

    def accounts(self, service: str) -> dict[str, Any]:
        """The accounts of one Service."""
        rows = self.patiently("GET", "/v1/accounts").json()
        rows = rows["items"] if isinstance(rows, dict) else rows
        return next((row for row in rows if row["service"] == service), {})

    def invocations(self, service: str) -> list[dict[str, Any]]:
        """All Invocations of one Service, page by page."""
        return every_invocation(self.patiently, service)

    def letter(self, invocation: str) -> dict[str, Any]:
        """The dead letter of an Invocation that is dead; it is kept a moment after that is told."""
        path = f"/v1/dead-letters/{invocation}"
        wait_until(lambda: self.patiently("GET", path).status_code == 200, f"{path} is there")
        return dict(self.patiently("GET", path).json())

    def store(self) -> AbstractAsyncContextManager[ObjectStore]:
        """The platform's own store."""
        return own_store(
            self.connection["s3_endpoint"],
            access_key=self.connection["s3_access_key"],
            secret_key=self.connection["s3_secret_key"],
        )


@contextlib.contextmanager
def running_platform(directory: Path, **environment: str) -> Iterator[Platform]:
    """A platform that is ready; stopped and cleaned up afterwards."""
    platform = Platform(directory / "platform", environment)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout: float = 60,
    every: float = 0.1,
    show: Callable[[], object] = lambda: "",
) -> None:
    """Return when `condition()` holds; fail saying `what` did not come true, and what `show()` says instead."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what} {show()}")
        time.sleep(every)


async def wait_for(
    condition: Callable[[], bool], what: str, *, timeout: float = 60, show: Callable[[], object] = lambda: ""
) -> None:
    """`wait_until` beside a running event loop."""
    await asyncio.to_thread(wait_until, condition, what, timeout=timeout, show=show)


def names(count: int, *, prefix: str = "file") -> Sequence[str]:
    """`count` distinct file names."""
    return [f"{prefix}-{number:05d}.txt" for number in range(count)]
