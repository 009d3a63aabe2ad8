"""A platform around real Workers: NATS, a real store, definitions and secrets; Workers are processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
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

from tests.retries import storing_retries
from tests.servers import Running
from tidemill.platform.servers import NatsServer, SeaweedServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName, derive_id
from tidemill_common.contracts.event import OBJECT_CREATED, SERVICE_CALLED, ArtifactRef, EventReceived
from tidemill_common.contracts.invocation import (
    CHANGED,
    LOG_WRITTEN,
    SET_ASIDE,
    TERMINAL,
    Change,
    DeadLetter,
    Invocation,
    InvocationChanged,
    changed_subject,
)
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined
from tidemill_common.secrets import PLATFORM, FileSecretStore, S3Credentials, SecretRecord
from tidemill_common.settings import BusSettings
from tidemill_common.storage import BucketStore, ObjectStore
from tidemill_common.storage.opening import open_buckets, open_store

KEYS = ("testkey", "testsecret")


@dataclass
class WorkerProcess:
    """One Worker."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    async def ends(self, timeout: float = 60) -> int:
        """Its exit code; one that does not end is killed, and is a failure."""
        try:
            return await asyncio.to_thread(self.process.wait, timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the Worker did not end within {timeout} s:\n{self.last_words}") from None

    async def ready(self) -> None:
        """Return when it leases."""
        await until(lambda: b"worker ready" in self.log.read_bytes())


@dataclass
class Platform:
    """What the other components would do, in the words of a test."""

    bus: Bus
    bus_settings: BusSettings
    directory: Path
    store: ObjectStore
    buckets: BucketStore
    name: ServiceName
    revision: int = 0
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def secrets(self) -> FileSecretStore:
        """The secret records."""
        return FileSecretStore(self.directory / "secrets")

    async def define(self, script: str, **fields: Any) -> Service:
        """Publish a definition of the Service."""
        self.revision += 1
        service = Service.model_validate({"name": self.name, "image": "none", "script": script, **fields})
        defined = ServiceDefined(name=self.name, revision=self.revision, at=datetime.now(UTC), service=service)
        await self.bus.log.append(DEFINED, defined, key=self.name)
        return service

    async def remove(self) -> None:
        """Remove the Service."""
        self.revision += 1
        defined = ServiceDefined(name=self.name, revision=self.revision, at=datetime.now(UTC))
        await self.bus.log.append(DEFINED, defined, key=self.name)

    async def upload(self, path: str, body: bytes) -> Invocation:
        """Put an object, and submit what routing would make of it."""
        info = await self.store.put(path, body)
        artifact = ArtifactRef(path=path, etag=info.etag, size=len(body))
        return await self.submit(event(derive_id("object", path, str(info.etag)), artifact=artifact))

    async def submit(self, of: EventReceived) -> Invocation:
        """Submit an Invocation of the Service by this Event."""
        trigger = "direct" if of.service else "minio.default:in"
        invocation = Invocation.of(
            of, service=self.name, owner="ann", revision=self.revision, trigger=trigger, now=datetime.now(UTC)
        )
        await self.bus.queue.submit(invocation)
        return invocation

    async def call(self, body: bytes, **fields: Any) -> Invocation:
        """Call the Service directly."""
        return await self.submit(event(derive_id("call", body.hex()), service=self.name, data=body, **fields))

    async def cancel(self, invocation: InvocationId) -> None:
        """Cancel as the gateway does."""
        record = InvocationChanged(
            invocation_id=invocation, service=self.name, change=Change.CANCELLED, at=datetime.now(UTC)
        )
        await self.bus.log.append(changed_subject(Change.CANCELLED), record, key=self.name)

    def start_worker(self, worker: str = "w1", **settings: str) -> WorkerProcess:
        """Start a Worker of the Service."""
        values = {
            "SERVICE": self.name,
            "WORKER_ID": worker,
            "WORKSPACE_DIR": str(self.directory / "work"),
            "SECRETS_DIR": str(self.directory / "secrets"),
            "BUS__URL": self.bus_settings.url,
            "BUS__LEASE": f"PT{self.bus_settings.lease.total_seconds()}S",
            "GRACE": "PT0.3S",
            **settings,
        }
        log = self.directory / f"{worker}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidemill_supervisor"],
                env={
                    "PATH": os.environ["PATH"],
                    **{f"TIDEMILL_SUPERVISOR_{key}": value for key, value in values.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        started = WorkerProcess(process, log)
        self.workers.append(started)
        return started

    async def ended(self, invocation: InvocationId, timeout: float = 60) -> InvocationChanged:
        """Its first terminal record."""
        return (await self.changes(invocation, timeout))[-1]

    async def changes(self, invocation: InvocationId, timeout: float = 60) -> list[InvocationChanged]:
        """Its records up to the first terminal one."""
        return await self._records(invocation, lambda record: record.change in TERMINAL, timeout)

    async def started(self, invocation: InvocationId, attempt: int = 1) -> None:
        """Return when this Attempt has started."""
        wanted = (Change.STARTED, attempt)
        await self._records(invocation, lambda record: (record.change, record.attempt) == wanted, 60)

    async def _records(
        self, invocation: InvocationId, is_last: Callable[[InvocationChanged], bool], timeout: float
    ) -> list[InvocationChanged]:
        found = []
        try:
            async with asyncio.timeout(timeout), self.bus.log.read(CHANGED, key=self.name, follow=True) as records:
                async for record in records:
                    if record.body.invocation_id == invocation:
                        found.append(record.body)
                        if is_last(record.body):
                            break
        except TimeoutError:
            logs = [f"{worker.log.name}:\n{worker.last_words}" for worker in self.workers]
            raise AssertionError("\n".join([f"after {timeout} s its records are {found}", *logs])) from None
        return found

    async def log_lines(self, invocation: InvocationId) -> list[str]:
        """All that LOGS has of an Invocation."""
        lines: list[str] = []
        async with self.bus.log.read(LOG_WRITTEN, key=f"{self.name}.{invocation}") as records:
            async for record in records:
                lines += record.body.lines
        return lines

    async def dead_letters(self) -> list[DeadLetter]:
        """All of the Service."""
        async with self.bus.log.read(SET_ASIDE, key=self.name) as records:
            return [record.body async for record in records]

    async def waiting(self) -> int:
        """How many Invocations wait or run."""
        backlog = (await self.bus.queue.backlog()).get(self.name)
        return 0 if backlog is None else backlog.ready + backlog.delayed

    async def nothing_waits(self) -> None:
        """Return when all Invocations have ended."""
        deadline = time.monotonic() + 60
        while left := await self.waiting():
            assert time.monotonic() < deadline, f"{left} wait or run still"
            await asyncio.sleep(0.02)

    async def objects(self, prefix: str) -> list[str]:
        """Paths of all objects below a prefix."""
        return [info.path async for info in self.store.list(prefix)]


def event(event_id: str, **fields: Any) -> EventReceived:
    """An Event of now."""
    kind = SERVICE_CALLED if fields.get("service") else OBJECT_CREATED
    return EventReceived(id=EventId(event_id), source="/test", type=kind, time=datetime.now(UTC), **fields)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whose child it was may not have noticed yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Return when a condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def platform(nats: Running, seaweed: Running, directory: Path, **bus: Any) -> AsyncIterator[Platform]:
    """A platform with the bucket `data`; a Service's name of its own, so that tests share the servers."""
    assert isinstance(nats.server, NatsServer)
    assert isinstance(seaweed.server, SeaweedServer)
    settings = BusSettings(url=nats.server.url, **bus)
    credentials = S3Credentials(endpoint=seaweed.server.endpoint, access_key=KEYS[0], secret_key=KEYS[1])
    fields = credentials.model_dump()
    name = ServiceName(f"s-{derive_id(str(directory))[:12]}")
    async with (
        open_bus(settings, name="test") as opened,
        open_store("minio.default", fields) as store,
        open_buckets(credentials) as buckets,
    ):
        await opened.streams.apply(await opened.streams.plan())
        made = Platform(opened, settings, directory, store, buckets, name)
        await made.secrets.put(PLATFORM, SecretRecord(providers={"minio.default": fields}))
        for bucket in ("data", "tidemill"):
            await buckets.create_bucket(bucket)
        try:
            async with storing_retries(opened):
                yield made
        finally:
            for worker in made.workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(signal.SIGTERM)
            for worker in made.workers:
                await worker.ends()
