"""Schedulers as processes on a real bus, and waiting for what they do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.servers import Running
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import EventId, ServiceName
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined, Synchronous
from tidemill_common.settings import BusSettings
from tidemill_scheduler.launchers.processes import kill_leftovers

STANDIN = Path(__file__).with_name("standin.py")


@dataclass
class Platform:
    """A bus, a directory, and the schedulers that were started."""

    bus: Bus
    url: str
    directory: Path
    schedulers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *, behaviour: str = "work", **settings: str) -> subprocess.Popen[bytes]:
        prefix = "TIDEMILL_SCHEDULER_"
        environment = {
            f"{prefix}BUS__URL": self.url,
            f"{prefix}STATE_DIR": str(self.directory / "state"),
            f"{prefix}WORKSPACE_ROOT": str(self.directory / "workspaces"),
            f"{prefix}LOG_DIR": str(self.directory / "logs"),
            f"{prefix}POOL__CPU_MILLICORES": "4000",
            f"{prefix}POOL__MEMORY_BYTES": str(8 * 1024**3),
            f"{prefix}POOL__MAX_STARTING": "4",
            f"{prefix}WORKER__COMMAND": json.dumps([sys.executable, str(STANDIN)]),
            f"{prefix}WORKER__ENVIRONMENT": json.dumps({"TIDEMILL_SUPERVISOR_BEHAVIOUR": behaviour}),
            **{f"{prefix}{name.upper()}": value for name, value in settings.items()},
        }
        with (self.directory / "scheduler.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidemill_scheduler"], env={**os.environ, **environment}, stdout=log, stderr=log
            )
        self.schedulers.append(process)
        return process

    async def define(self, name: str, *, revision: int = 1, removed: bool = False, **fields: Any) -> None:
        service = None if removed else Service(name=ServiceName(name), script="", **{"image": "", "cpu": "1"} | fields)
        defined = ServiceDefined(name=ServiceName(name), revision=revision, at=datetime.now(UTC), service=service)
        await self.bus.log.append(DEFINED, defined, key=name)

    async def submit(self, name: str, count: int = 1) -> None:
        now = datetime.now(UTC)
        for _ in range(count):
            event = EventReceived(id=EventId(os.urandom(8).hex()), source="/test", type="test", time=now)
            await self.bus.queue.submit(
                Invocation.of(event, service=ServiceName(name), owner="ada", revision=1, trigger="direct", now=now)
            )

    async def register(self, name: str) -> dict[str, Any]:
        """What a scheduler told there; empty: nothing yet."""
        found = await self.bus.registers.get(name)
        return {} if found is None else dict(json.loads(found.value))

    async def leader(self) -> str:
        """Who leads; empty: nobody."""
        return str((await self.register("leader.scheduler")).get("holder", ""))

    async def status(self, name: str) -> dict[str, Any]:
        """As the scheduler that leads now sees it; empty: it has told nothing yet."""
        view = await self.register("scheduler.status")
        if view.get("holder") != await self.leader():
            return {}
        return dict(view["services"].get(name, {}))

    async def ready(self, name: str) -> int:
        backlog = (await self.bus.queue.backlog()).get(ServiceName(name))
        return 0 if backlog is None else backlog.ready

    def workers(self, service: str = "") -> dict[str, int]:
        """Worker id -> pid of those that run."""
        found = {}
        for path in (self.directory / "state" / "workers").glob(f"{service}*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                pid = int(json.loads(path.read_text())["process"]["pid"])
                os.kill(pid, 0)
                found[path.stem] = pid
        return found

    def release(self) -> None:
        (self.directory / "workspaces" / "release").touch()

    def end(self) -> None:
        for process in self.schedulers:
            if process.poll() is None:
                process.kill()
            process.wait()
        for path in (self.directory / "state" / "workers").glob("*.json"):
            kill_leftovers(path.stem, None)  # type: ignore[arg-type]  # file names are ids here


@contextlib.asynccontextmanager
async def platform(url: str, directory: Path) -> AsyncIterator[Platform]:
    """A fresh bus with its Streams; schedulers and Workers end with it."""
    async with open_bus(BusSettings(url=url), name="test") as bus:
        await bus.streams.apply(await bus.streams.plan())
        running = Platform(bus, url, directory)
        try:
            yield running
        finally:
            running.end()


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 60) -> Any:
    """Wait for a condition (a function, or a coroutine function) to hold; what it gave."""
    deadline, value = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}; at last: {value!r}")


def url_of(nats: Running) -> str:
    assert isinstance(nats.server, NatsServer)
    return f"nats://127.0.0.1:{nats.server.port}"


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it was read
        return False
    return state != "Z"


def terminate(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


__all__ = ["Platform", "Synchronous", "is_alive", "platform", "terminate", "until", "url_of"]
