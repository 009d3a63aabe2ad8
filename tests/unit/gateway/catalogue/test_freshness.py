"""Every replica knows what SQL knows, and what a crash left untold is told at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_common.contracts.service import DEFINED
from tidemill_common.errors import UnavailableError
from tidemill_gateway.catalogue import Catalogue


@asynccontextmanager
async def running(catalogue: Catalogue) -> AsyncIterator[Catalogue]:
    task = asyncio.create_task(catalogue.run())
    try:
        yield catalogue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


class BusAway:
    """Lets nobody append, for as long as it is patched in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
        self._patch = monkeypatch
        self._log = platform.bus.log

    def leave(self) -> None:
        async def refuse(*_: object, **__: object) -> None:
            raise UnavailableError("the bus does not answer")

        self._patch.setattr(self._log, "append", refuse)

    def come_back(self) -> None:
        self._patch.undo()


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> BusAway:
    """The bus, which can go away."""
    return BusAway(monkeypatch, platform)


async def test_another_replica_learns_of_changes(platform: Platform) -> None:
    async with running(platform.replica()) as other:
        made = await platform.catalogue.create(definition(), who="oscar")
        await until(lambda: other.service_of_token("edge-blur", made.token))

        changed = await platform.catalogue.update(definition(cpu="1"), who="oscar")
        await until(lambda: other.get_cached("edge-blur") == changed.service)

        await platform.catalogue.remove("edge-blur", who="oscar")
        await until(lambda: other.get_cached("edge-blur") is None)


async def test_a_new_replica_knows_all_services_when_loaded(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(), who="oscar")
    other = platform.replica()

    await other.load()

    assert other.get_cached("edge-blur") == made.service


async def test_a_definition_that_was_not_told_is_told_at_start(platform: Platform, bus: BusAway) -> None:
    bus.leave()
    with pytest.raises(UnavailableError):
        await platform.catalogue.create(definition(), who="oscar")
    bus.come_back()
    assert await platform.definitions() == {}

    async with running(platform.replica()), platform.bus.log.read(DEFINED, follow=True) as records:
        async for record in records:
            assert record.body.service is not None
            break


async def test_a_removal_that_was_not_told_is_finished_at_start(platform: Platform, bus: BusAway) -> None:
    await platform.catalogue.create(definition(), who="oscar")
    bus.leave()
    with pytest.raises(UnavailableError):
        await platform.catalogue.remove("edge-blur", who="oscar")
    bus.come_back()

    async with running(platform.replica()):
        await until(lambda: "edge-blur" not in platform.secrets.records)

    assert (await platform.definitions())["edge-blur"].service is None


async def test_what_could_not_be_told_is_told_when_the_bus_is_back(platform: Platform, bus: BusAway) -> None:
    await platform.catalogue.load()
    bus.leave()
    with pytest.raises(UnavailableError):
        await platform.catalogue.create(definition(), who="oscar")
    bus.come_back()

    await platform.catalogue.update(definition(), who="oscar")

    assert (await platform.definitions())["edge-blur"].revision == 1


async def test_a_name_is_used_again_only_after_its_removal_is_told(platform: Platform, bus: BusAway) -> None:
    await platform.catalogue.create(definition(environment={"secrets": {"A": "1"}}), who="oscar")
    bus.leave()
    with pytest.raises(UnavailableError):
        await platform.catalogue.remove("edge-blur", who="oscar")
    bus.come_back()

    again = await platform.catalogue.create(definition(environment={"secrets": {"A": "2"}}), who="oscar")

    assert platform.secrets.records["edge-blur"].environment["A"] == "2"
    assert (await platform.definitions())["edge-blur"] == again.published()


async def test_telling_again_at_start_changes_nothing(platform: Platform) -> None:
    await platform.catalogue.create(definition(), who="oscar")
    newest = await platform.bus.log.end(DEFINED)

    async with running(platform.replica()) as other:
        await until(lambda: other.get_cached("edge-blur"))
        await asyncio.sleep(0.01)

    assert await platform.bus.log.end(DEFINED) == newest
