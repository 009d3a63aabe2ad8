"""The SeaweedFS Source alone: its cursor moves behind acknowledgements, and not before the listing is through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.storage_bridge.platform import Platform, eventually, platform
from tests.servers import Running
from tidemill.platform.servers import SeaweedServer
from tidemill_common.bus import Registers
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.event import EventReceived
from tidemill_common.settings import BusSettings
from tidemill_storage_bridge.domain.cursor import Progress, Ticket
from tidemill_storage_bridge.ports import Publish
from tidemill_storage_bridge.sources.seaweedfs import CatchUp, Filer, SeaweedSource

pytestmark = pytest.mark.integration


@pytest.fixture
async def place(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


@pytest.fixture
async def registers() -> AsyncIterator[Registers]:
    async with open_memory(BusSettings(url="memory://")) as bus:
        yield bus.registers


class Acknowledging:
    """Publishes; acknowledges all but what it is told to hold."""

    def __init__(self, *held: str) -> None:
        self.seen: dict[str, str] = {}
        self._held = held
        self._never = asyncio.Event()

    async def publish(self, event: EventReceived) -> bool:
        assert event.subject is not None
        self.seen[event.subject] = event.id
        if event.subject in self._held:
            await self._never.wait()
        return True


async def told(bus: Acknowledging, *names: str) -> bool:
    return bus.seen.keys() >= set(names)


async def listed(provider: str, since: datetime | None) -> None:
    """A listing that finds nothing."""


async def nothing_recorded(source: str, since: datetime) -> Collection[str]:
    return frozenset()


@asynccontextmanager
async def following(
    place: Platform,
    registers: Registers,
    publish: Publish,
    *,
    catch_up: CatchUp = listed,
    of: type[SeaweedSource] = SeaweedSource,
) -> AsyncIterator[None]:
    """The Source, killed at the end."""
    assert isinstance(place.seaweed.server, SeaweedServer)
    filer = Filer(address=place.seaweed.server.filer_grpc, provider="minio.default", system_bucket="tidemill")
    source = of(filer, registers=registers, catch_up=catch_up, recorded=nothing_recorded)
    task = asyncio.create_task(source.run(publish, asyncio.Event()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def cursor(registers: Registers) -> int:
    register = await registers.get("cursor.seaweedfs.minio.default")
    return int(register.value) if register is not None else 0


async def settled(registers: Registers) -> int:
    """The cursor when it has not moved for a while longer than it is saved in."""
    seen = -1
    while seen != (seen := await cursor(registers)):
        await asyncio.sleep(0.5)
    return seen


async def test_the_cursor_stays_before_what_is_not_acknowledged(place: Platform, registers: Registers) -> None:
    await place.bucket("order")
    first, second = Acknowledging("b"), Acknowledging()
    async with following(place, registers, first.publish):
        for name in ("a", "b", "c"):
            await place.put(f"order/{name}")
        await eventually(lambda: told(first, "a", "b", "c"))
        await settled(registers)
    async with following(place, registers, second.publish):
        await eventually(lambda: told(second, "b", "c"))
    assert second.seen.items() <= first.seen.items()


async def test_a_source_that_moves_its_cursor_first_loses_what_was_in_flight(
    place: Platform, registers: Registers
) -> None:
    """The negative control of the test above: with the order of effects turned round the Event is gone."""

    class MovesFirst(SeaweedSource):
        async def _handle(
            self,
            ticket: Ticket,
            events: Sequence[EventReceived],
            progress: Progress,
            publish: Publish,
            stopping: asyncio.Event,
        ) -> None:
            progress.finish(ticket)
            moved.append(progress.cursor)
            await super()._handle(ticket, events, progress, publish, stopping)

    moved: list[int] = []
    await place.bucket("disorder")
    first, second = Acknowledging("in-flight"), Acknowledging()
    async with following(place, registers, first.publish, of=MovesFirst):
        for name in ("before", "in-flight", "behind"):
            await place.put(f"disorder/{name}")
        await eventually(lambda: told(first, "before", "in-flight", "behind"))
        await eventually(lambda: cursor(registers), is_enough=lambda found: found >= moved[-1], what="the cursor")
    async with following(place, registers, second.publish):
        await place.put("disorder/last")
        await eventually(lambda: told(second, "last"))
    assert "in-flight" not in second.seen


async def test_the_cursor_is_not_saved_before_the_listing_is_through(place: Platform, registers: Registers) -> None:
    let_list = asyncio.Event()

    async def slow(provider: str, since: datetime | None) -> None:
        assert since is None
        await let_list.wait()

    await place.bucket("listing")
    bus = Acknowledging()
    async with following(place, registers, bus.publish, catch_up=slow):
        await place.put("listing/one")
        await eventually(lambda: told(bus, "one"))
        assert await settled(registers) == 0
        let_list.set()
        await eventually(lambda: cursor(registers), what="the cursor")
