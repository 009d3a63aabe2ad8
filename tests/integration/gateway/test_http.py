"""The gateway as a process, on a real bus and store: what clients see, also when the bus is full and at the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.servers import Running, nats_server, wait_until_answers
from tidemill.platform.servers import NatsServer, SeaweedServer, free_port
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import (
    DIRECT_TRIGGER,
    LOG_WRITTEN,
    Change,
    InvocationChanged,
    LogWritten,
    changed_subject,
    invocation_id,
)
from tidemill_common.secrets import PLATFORM, FileSecretStore, SecretRecord
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration


@dataclass
class Gateway:
    """A gateway process."""

    process: subprocess.Popen[bytes]
    url: str
    bus_url: str

    def client(self) -> httpx.AsyncClient:
        """As the admin."""
        return httpx.AsyncClient(base_url=self.url, auth=("oscar", "pw"), timeout=60)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def gateway_process(directory: Path, nats: Running, seaweed: Running, **more: str) -> Iterator[Gateway]:
    """A gateway on these servers; ends with the block."""
    assert isinstance(nats.server, NatsServer)
    assert isinstance(seaweed.server, SeaweedServer)
    endpoint = f"http://127.0.0.1:{seaweed.server.s3_port}"
    fields: dict[str, object] = {"endpoint": endpoint, "access_key": "testkey", "secret_key": "testsecret"}
    secrets = FileSecretStore(directory / "secrets")
    asyncio.run(secrets.put(PLATFORM, SecretRecord(providers={"minio.default": fields})))
    port, log = free_port(), directory / "gateway.log"
    environment = {
        "BUS__URL": nats.server.url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{directory}/gateway.db",
        "PASSWORD": "pw",
        "SECRETS_DIR": str(directory / "secrets"),
        "PORT": str(port),
        **more,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemill_gateway"],
            env=os.environ | {f"TIDEMILL_GATEWAY_{name}": value for name, value in environment.items()},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_answers(f"http://127.0.0.1:{port}/health", process, log)
        yield Gateway(process, f"http://127.0.0.1:{port}", nats.server.url)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def gateway(nats: Running, seaweed: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The module's gateway."""
    with gateway_process(tmp_path_factory.mktemp("gateway"), nats, seaweed) as running:
        yield running


@pytest.fixture
async def bus(gateway: Gateway) -> AsyncIterator[Bus]:
    """The bus that the gateway is on."""
    async with open_bus(BusSettings(url=gateway.bus_url), name="test") as bus:
        yield bus


async def created(client: httpx.AsyncClient, name: str) -> dict[str, str]:
    """A Service; the headers of its callers."""
    definition = {"name": name, "image": "busybox", "script": "#!/bin/sh\ntrue\n"}
    assert (await client.post("/system/services", json=definition)).status_code == 201
    token = (await client.get(f"/system/services/{name}")).json()["token"]
    return {"authorization": f"Bearer {token}"}


async def call(gateway: Gateway, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Post as a caller of a Service."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return await client.post(path, content=body, headers=headers)


async def tell(bus: Bus, service: str, invocation: str, change: Change, result: bytes | None = None) -> None:
    """What routing or a Worker appends."""
    record = InvocationChanged(
        invocation_id=InvocationId(invocation),
        service=ServiceName(service),
        change=change,
        at=datetime.now(UTC),
        attempt=1,
        result=result,
    )
    await bus.log.append(changed_subject(change), record, key=service, message_id=record.message_id())


async def test_an_accepted_call_is_on_the_bus_once_for_its_key(gateway: Gateway, bus: Bus) -> None:
    async with gateway.client() as client:
        headers = await created(client, "keyed") | {"idempotency-key": "one"}
        answers = [await call(gateway, "/job/keyed", b"x" * 40_000, headers) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.headers["tidemill-invocation-id"] for answer in answers}) == 1
    async with bus.log.read(RECEIVED, key="keyed") as records:
        [event] = [record.body async for record in records]
    assert event.data_ref is not None
    assert event.data_ref.size == 40_000


async def test_run_answers_with_what_a_worker_replies(gateway: Gateway, bus: Bus) -> None:
    async def worker(event: EventReceived) -> None:
        assert event.reply_to is not None
        assert event.service is not None
        record = InvocationChanged(
            invocation_id=invocation_id(event.id, event.service, DIRECT_TRIGGER),
            service=event.service,
            change=Change.SUCCEEDED,
            at=datetime.now(UTC),
            result=event.data,
        )
        await bus.live.publish(event.reply_to, record.encode())

    async def work() -> None:
        async with bus.log.read(RECEIVED, key="called", follow=True) as records:
            async for record in records:
                await worker(record.body)

    async with gateway.client() as client:
        headers = await created(client, "called")
        working = asyncio.create_task(work())
        answer = await call(gateway, "/run/called", b"echo", headers)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert (answer.status_code, answer.content) == (200, b"echo")


async def test_the_tail_is_live(gateway: Gateway, bus: Bus) -> None:
    async with gateway.client() as client:
        headers = await created(client, "tailed")
        answer = await call(gateway, "/job/tailed", b"x", headers)
        invocation = answer.headers["tidemill-invocation-id"]
        await tell(bus, "tailed", invocation, Change.REQUESTED)
        told: list[tuple[str, object]] = []
        async with client.stream("GET", f"/v1/invocations/{invocation}/tail") as stream:
            name = ""
            async for line in stream.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                if field != "data":
                    continue
                data = json.loads(value)
                told.append((name, data.get("phase") or data.get("lines")))
                if told == [("invocation", "Pending")]:  # each step only after the one before was seen
                    await tell(bus, "tailed", invocation, Change.STARTED)
                elif told[-1] == ("invocation", "Running"):
                    written = LogWritten(
                        invocation_id=InvocationId(invocation),
                        service=ServiceName("tailed"),
                        attempt=1,
                        first_line=0,
                        at=datetime.now(UTC),
                        lines=("hello",),
                    )
                    await bus.log.append(LOG_WRITTEN, written, key=f"tailed.{invocation}")
                elif told[-1] == ("log", ["hello"]):
                    await tell(bus, "tailed", invocation, Change.SUCCEEDED)
    assert told == [
        ("invocation", "Pending"),
        ("invocation", "Running"),
        ("log", ["hello"]),
        ("invocation", "Succeeded"),
        ("end", None),
    ]


async def test_a_full_bus_is_503_and_nothing_accepted_is_lost(
    seaweed: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("full")
    with (
        nats_server(directory) as nats,
        gateway_process_in_thread(directory, nats, seaweed, BUS__EVENTS_MAX_BYTES="200000") as gateway,
    ):
        async with gateway.client() as client:
            headers = await created(client, "full")
            statuses = []
            for _ in range(40):
                answer = await call(gateway, "/job/full", b"x" * 10_000, headers)
                statuses.append(answer.status_code)
            assert int(answer.headers["retry-after"]) >= 1
        async with (
            open_bus(BusSettings(url=gateway.bus_url), name="test") as bus,
            bus.log.read(RECEIVED) as records,
        ):
            kept = [record.body.id async for record in records]
    assert set(statuses) == {201, 503}
    assert statuses.count(201) == len(kept)


@contextlib.contextmanager
def gateway_process_in_thread(directory: Path, nats: Running, seaweed: Running, **more: str) -> Iterator[Gateway]:
    """`gateway_process` from inside a running loop."""
    context = gateway_process(directory, nats, seaweed, **more)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(context.__enter__).result()
        try:
            yield running
        finally:
            pool.submit(context.__exit__, None, None, None).result()


def test_sigterm_drains_and_exits_0(nats: Running, seaweed: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("drained")
    with gateway_process(directory, nats, seaweed) as gateway:
        assert gateway.stop() == 0
    assert b"Traceback" not in (directory / "gateway.log").read_bytes()


def test_without_its_bus_the_gateway_says_that_it_should_be_started_again(
    seaweed: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("alone")
    environment = os.environ | {
        "TIDEMILL_GATEWAY_BUS__URL": f"nats://127.0.0.1:{free_port()}",
        "TIDEMILL_GATEWAY_BUS__REQUEST_TIMEOUT": "PT1S",
        "TIDEMILL_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{directory}/gateway.db",
        "TIDEMILL_GATEWAY_PASSWORD": "pw",
    }
    ended = subprocess.run([sys.executable, "-m", "tidemill_gateway"], env=environment, timeout=60, capture_output=True)
    assert ended.returncode == 75
