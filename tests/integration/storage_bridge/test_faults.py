"""Whatever dies, and whenever: every file runs, and none runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.integration.storage_bridge.platform import Platform, bridge, bridge_process, eventually, platform
from tests.servers import Running
from tidemill.platform.servers import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
async def place(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


async def exactly_once(place: Platform, service: str, bucket: str, count: int) -> None:
    """Each of the files became one Event and one Invocation."""
    await place.until_waiting(service, count)
    subjects = Counter(invocation.event.subject for invocation in await place.work(service, count))
    assert set(subjects) == {f"in/{number}" for number in range(count)}
    assert set(subjects.values()) == {1}
    assert len(await place.events(bucket)) == count


async def test_changes_that_a_killed_filer_forgot_are_found_by_listing(place: Platform) -> None:
    await place.bucket("trap")
    await place.apply("trap", "trap/in")
    async with bridge(place.settings):
        await place.put("trap/in/0")
        await place.until_waiting("trap", 1)
    for number in range(1, 50):
        await place.put(f"trap/in/{number}")
    place.seaweed.kill()
    place.seaweed.start()
    async with bridge(place.settings):
        await exactly_once(place, "trap", "trap", 50)


async def test_a_filer_killed_under_a_running_bridge_loses_nothing(place: Platform) -> None:
    await place.bucket("shot")
    await place.apply("shot", "shot/in")
    async with bridge(place.settings):
        for number in range(30):
            await place.put(f"shot/in/{number}")
        place.seaweed.kill()
        place.seaweed.start()
        for number in range(30, 60):
            await place.put(f"shot/in/{number}")
        await exactly_once(place, "shot", "shot", 60)


async def test_a_killed_bridge_repeats_nothing(place: Platform, tmp_path: Path) -> None:
    await place.bucket("killed")
    await place.apply("killed", "killed/in")
    for start in range(0, 90, 30):
        with bridge_process(place.settings, tmp_path / "log") as process:
            for number in range(start, start + 30):
                await place.put(f"killed/in/{number}")
            await place.until_events("killed", start + 1)
            process.kill()
            process.wait()
    with bridge_process(place.settings, tmp_path / "log"):
        await exactly_once(place, "killed", "killed", 90)


async def test_a_stopped_bridge_exits_0_when_drained(place: Platform, tmp_path: Path) -> None:
    port = free_port()
    settings = place.settings.model_copy(update={"port": port})
    with bridge_process(settings, tmp_path / "log") as process:
        await eventually(lambda: healthy(port))
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0


async def test_without_the_bus_nothing_is_acknowledged(place: Platform) -> None:
    port = free_port()
    settings = place.settings.model_copy(
        update={"port": port, "bus": place.settings.bus.model_copy(update={"request_timeout": timedelta(seconds=2)})}
    )
    sample = Path("tests/contract/sources/samples/minio-put.json").read_bytes()
    headers = {"authorization": "Bearer secret-token", "content-type": "application/json"}
    await place.bucket("outage")
    await place.apply("outage", "outage/in")
    async with bridge(settings), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await eventually(lambda: healthy(port))
        await place.put("outage/in/0")
        await place.until_waiting("outage", 1)
        cursor = await eventually(place.cursor)
        place.nats.kill()
        await place.put("outage/in/1")
        answer = await client.post("/events", content=sample, headers=headers, timeout=20)
        assert answer.status_code == 503
        assert answer.headers["retry-after"].isdigit()
        assert answer.headers["content-type"] == "application/problem+json"
        place.nats.start()

        async def repeated() -> int:
            """What its sender does; the bridge may not be connected again yet."""
            return (await client.post("/events", content=sample, headers=headers, timeout=20)).status_code

        await eventually(repeated, is_enough=lambda status: status == 200, what="the answer")
        await exactly_once(place, "outage", "outage", 2)
        assert cursor is not None


async def healthy(port: int) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
    except httpx.TransportError:
        return False
