"""A bridge in this process, a real bus, a real store, and what a test wants to know of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.servers import Running
from tidemill.platform.servers import NatsServer, SeaweedServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import CHANGED, Invocation, InvocationChanged
from tidemill_common.contracts.service import DEFAULT_PROVIDER, DEFINED, Service, ServiceDefined, StorageIO
from tidemill_common.secrets import PLATFORM, FileSecretStore, S3Credentials, SecretRecord
from tidemill_common.settings import BusSettings
from tidemill_common.storage.opening import open_buckets, open_store
from tidemill_storage_bridge.app import SOURCES, MakeSource, run
from tidemill_storage_bridge.settings import Role, SeaweedSettings, Settings


async def eventually(
    check: Callable[[], Any], *, within: float = 60, is_enough: Callable[[Any], bool] = bool, what: str = "it"
) -> Any:
    """The first answer of an async check that is enough; fails when there is none in time, and shows the last."""
    deadline = time.monotonic() + within
    while not is_enough(answer := await check()):
        assert time.monotonic() < deadline, f"after {within} s {what} is still {answer!r}"
        await asyncio.sleep(0.02)
    return answer


@dataclass
class Platform:
    """A bus and a store, with helpers in a user's words."""

    bus: Bus
    nats: Running
    seaweed: Running
    secrets_dir: Path
    token_file: Path
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        assert isinstance(self.seaweed.server, SeaweedServer)
        assert isinstance(self.nats.server, NatsServer)
        self.settings = Settings(
            port=0,
            secrets_dir=self.secrets_dir,
            tokens_file=self.token_file,
            bus=BusSettings(url=self.nats.server.url),
            seaweedfs=SeaweedSettings(filer_grpc=self.seaweed.server.filer_grpc),
        )

    @property
    def credentials(self) -> S3Credentials:
        assert isinstance(self.seaweed.server, SeaweedServer)
        return S3Credentials(endpoint=self.seaweed.server.endpoint, access_key="testkey", secret_key="testsecret")

    async def bucket(self, name: str) -> None:
        async with open_buckets(self.credentials) as buckets:
            await buckets.create_bucket(name)

    async def put(self, path: str, body: bytes = b"hello") -> None:
        async with open_store(DEFAULT_PROVIDER, self.credentials.model_dump()) as store:
            await store.put(path, body)

    async def upload(self, source: Path, path: str) -> None:
        async with open_store(DEFAULT_PROVIDER, self.credentials.model_dump()) as store:
            await store.upload(source, path)

    async def rename(self, old: str, new: str) -> None:
        assert isinstance(self.seaweed.server, SeaweedServer)
        filer = f"http://127.0.0.1:{self.seaweed.server.filer_port}/buckets"
        async with httpx.AsyncClient() as client:
            (await client.post(f"{filer}/{new}", params={"mv.from": f"/buckets/{old}"})).raise_for_status()

    async def cursor(self) -> int | None:
        register = await self.bus.registers.get("cursor.seaweedfs.minio.default")
        return int(register.value) if register is not None else None

    async def delete(self, path: str) -> None:
        async with open_store(DEFAULT_PROVIDER, self.credentials.model_dump()) as store:
            await store.delete(path)

    async def apply(self, name: str, *paths: str, revision: int = 1, removed: bool = False) -> ServiceDefined:
        service = Service(
            name=ServiceName(name),
            image="i",
            script="true",
            owner="ana",
            input=tuple(StorageIO(path=path) for path in paths),
        )
        defined = ServiceDefined(
            name=service.name, revision=revision, at=datetime.now(UTC), service=None if removed else service
        )
        await self.bus.log.append(DEFINED, defined, key=name)
        return defined

    async def events(self, key: str | None = None) -> list[EventReceived]:
        async with self.bus.log.read(RECEIVED, key=key) as records:
            return [record.body async for record in records]

    async def changes(self, service: str) -> list[InvocationChanged]:
        async with self.bus.log.read(CHANGED, key=service) as records:
            return [record.body async for record in records]

    async def until_events(self, bucket: str, count: int) -> list[EventReceived]:
        """The Events of a bucket, once there are this many."""
        found: list[EventReceived] = await eventually(
            lambda: self.events(bucket), is_enough=lambda found: len(found) >= count, what=f"EVENTS of {bucket}"
        )
        return found

    async def until_waiting(self, service: str, count: int) -> None:
        await eventually(
            lambda: self.waiting(service), is_enough=lambda found: found >= count, what=f"the backlog of {service}"
        )

    async def waiting(self, service: str) -> int:
        backlog = (await self.bus.queue.backlog()).get(ServiceName(service))
        return backlog.ready if backlog is not None else 0

    async def work(self, service: str, count: int) -> list[Invocation]:
        """Take this many Invocations from WORK, then look that no more come."""
        taken: list[Invocation] = []
        async with self.bus.queue.leases(ServiceName(service), slots=count + 1) as leases:

            async def take() -> None:
                async for lease in leases:
                    taken.append(lease.invocation)
                    await lease.done()
                    if len(taken) >= count:
                        leases.stop()
                        return

            await asyncio.wait_for(take(), 60)
        assert await self.waiting(service) == 0
        return taken


@asynccontextmanager
async def platform(nats: Running, seaweed: Running, directory: Path) -> AsyncIterator[Platform]:
    """An open bus with Streams, credentials on disk, one HTTP token."""
    assert isinstance(nats.server, NatsServer)
    secrets_dir, token_file = directory / "secrets", directory / "tokens.json"
    token_file.write_text('{"secret-token": {"source": "lab", "provider": "minio.default"}}')
    async with open_bus(BusSettings(url=nats.server.url), name="test") as bus:
        await ensure_streams(bus)
        made = Platform(bus=bus, nats=nats, seaweed=seaweed, secrets_dir=secrets_dir, token_file=token_file)
        record = SecretRecord(providers={DEFAULT_PROVIDER: made.credentials.model_dump()})
        await FileSecretStore(secrets_dir).put(PLATFORM, record)
        yield made


@asynccontextmanager
async def bridge(settings: Settings, **table: MakeSource) -> AsyncIterator[None]:
    """The bridge in this process, drained at the end."""
    stopping, started = asyncio.Event(), datetime.now(UTC)
    task = asyncio.create_task(run(settings, stopping, sources={**SOURCES, **table}))
    try:
        yield
        if settings.seaweedfs is not None and Role.SOURCES in settings.roles:
            await _listed(settings, since=started)
    finally:
        stopping.set()
        await task


async def _listed(settings: Settings, *, since: datetime) -> None:
    """Return when the first listing is through: the cursor was saved. A drain before that is tested by processes."""
    async with open_bus(settings.bus, name="test") as bus:

        async def saved() -> bool:
            register = await bus.registers.get("cursor.seaweedfs.minio.default")
            return register is not None and register.time >= since

        await eventually(saved)


@contextmanager
def bridge_process(
    settings: Settings, log: Path, *, module: str = "tidemill_storage_bridge"
) -> Iterator[subprocess.Popen[bytes]]:
    """The bridge as its own process; ended with SIGTERM unless the test has ended it."""
    assert settings.seaweedfs is not None
    environment = os.environ | {
        "TIDEMILL_BRIDGE_PORT": str(settings.port),
        "TIDEMILL_BRIDGE_SECRETS_DIR": str(settings.secrets_dir),
        "TIDEMILL_BRIDGE_TOKENS_FILE": str(settings.tokens_file),
        "TIDEMILL_BRIDGE_BUS__URL": settings.bus.url,
        "TIDEMILL_BRIDGE_SEAWEEDFS__FILER_GRPC": settings.seaweedfs.filer_grpc,
        "TIDEMILL_BRIDGE_TELEMETRY__LOG_FORMAT": "json",
    }
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
