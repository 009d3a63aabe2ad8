"""What others ask of a running bridge: notifications by HTTP, and reconciliation over the bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.integration.storage_bridge.platform import Platform, bridge, eventually, platform
from tests.integration.storage_bridge.test_faults import healthy
from tests.servers import Running
from tidemill.platform.servers import free_port
from tidemill_common.storage.opening import open_store
from tidemill_storage_bridge.settings import Role, Settings

pytestmark = pytest.mark.integration

SAMPLES = Path(__file__).parents[2] / "contract" / "sources" / "samples"
TOKEN = {"authorization": "Bearer secret-token"}


@pytest.fixture
async def place(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


async def test_a_notification_of_minio_becomes_an_invocation_once(place: Platform) -> None:
    await place.apply("hook", "events/in")
    settings = place.settings.model_copy(update={"port": free_port(), "seaweedfs": None})
    body = (SAMPLES / "minio-put.json").read_bytes()
    async with bridge(settings), httpx.AsyncClient(base_url=address(settings), timeout=30) as client:
        await eventually(lambda: healthy(settings.port))
        first = await client.post("/events", content=body, headers=TOKEN)
        again = await client.post("/events", content=body, headers=TOKEN)
        assert (first.json(), again.json()) == ({"events": 1, "new": 1}, {"events": 1, "new": 0})
        assert (await client.post("/events", content=body)).status_code == 401
        await place.until_waiting("hook", 1)
        assert "tidemill_bridge_events_duplicate_total" in (await client.get("/metrics")).text
    assert [invocation.event.subject for invocation in await place.work("hook", 1)] == ["in/a b+ü.txt"]


async def test_a_large_payload_travels_by_reference(place: Platform) -> None:
    await place.bucket("tidemill")
    settings = place.settings.model_copy(update={"port": free_port(), "seaweedfs": None})
    event = {"specversion": "1.0", "id": "1", "source": "/lab", "type": "org.example.large", "data": "z" * 200_000}
    headers = TOKEN | {"content-type": "application/cloudevents+json"}
    async with bridge(settings), httpx.AsyncClient(base_url=address(settings), timeout=30) as client:
        await eventually(lambda: healthy(settings.port))
        answer = await client.post("/events", content=json.dumps(event), headers=headers)
        assert answer.status_code == 200
    (stored,) = await place.events("lab")
    assert stored.data is None
    assert stored.data_ref is not None
    assert stored.data_ref.path == f"tidemill/payloads/{stored.id}"
    async with open_store(stored.data_ref.provider, place.credentials.model_dump()) as store:
        assert json.loads(await store.get(stored.data_ref.path)) == "z" * 200_000


def address(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.port}"


async def ask(place: Platform, **request: object) -> dict[str, object]:
    """One request on `live.reconcile`, as the gateway sends it."""
    async with place.bus.live.subscribe("live.reply.test") as replies:
        body = json.dumps({"reply_to": "live.reply.test", **request}).encode()
        await place.bus.live.publish("live.reconcile", body)
        async with asyncio.timeout(60):
            _, answer = await anext(aiter(replies))
    found: dict[str, object] = json.loads(answer)
    return found


async def test_reconciliation_submits_what_no_source_told(place: Platform) -> None:
    await place.bucket("filled")
    await place.apply("fill", "filled/in")
    for number in range(30):
        await place.put(f"filled/in/{number}")
    settings = place.settings.model_copy(update={"port": free_port(), "roles": {Role.ROUTING, Role.RECONCILIATION}})
    async with bridge(settings):
        await eventually(lambda: healthy(settings.port))
        dry = await ask(place, service="fill", dry_run=True)
        assert dry == {"service": "fill", "listed": 30, "missing": 30, "submitted": 0}
        assert await ask(place, service="fill") == {"service": "fill", "listed": 30, "missing": 30, "submitted": 30}
        assert await ask(place, service="fill") == {"service": "fill", "listed": 30, "missing": 0, "submitted": 0}
        assert "no such Service" in str((await ask(place, service="nobody"))["error"])
        await place.until_waiting("fill", 30)
    async with bridge(place.settings):
        await place.put("filled/in/last")
        await place.until_waiting("fill", 31)
    subjects = {invocation.event.subject for invocation in await place.work("fill", 31)}
    assert len(subjects) == 31
