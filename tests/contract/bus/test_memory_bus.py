"""The in-process bus keeps the promises of the port, and time stands still unless a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from tests.contract.bus.log_suite import LiveAndStateContract, LogContract
from tests.contract.bus.queue_suite import WorkQueueContract
from tests.contract.bus.world import World, invocation
from tests.retries import storing_retries
from tidemill_common.bus.memory import ManualClock, MemoryServer
from tidemill_common.bus.memory.work import Work
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.settings import BusSettings


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An in-process bus."""
    settings, clock = BusSettings(url="memory://"), ManualClock()
    server = MemoryServer(settings, clock)

    async def pass_time(by: timedelta) -> None:
        clock.advance(by)
        await asyncio.sleep(0)

    async def inject(service: ServiceName, lane: Lane, body: bytes) -> None:
        server.work.add(Work(next(server.work.positions), service, lane, body))

    async with server.connect(settings) as bus, AsyncExitStack() as attendant:
        await attendant.enter_async_context(storing_retries(bus))
        yield World(
            bus=bus,
            settings=settings,
            reach=server.connect,
            pass_time=pass_time,
            now=clock.now,
            quiet=0.001,
            inject=inject,
            attendant=attendant,
        )


class TestMemoryWorkQueue(WorkQueueContract):
    """`WorkQueue` in memory."""

    async def test_an_id_is_forgotten_after_the_window(self, world: World) -> None:
        wanted = invocation()
        await world.bus.queue.submit(wanted)
        await world.pass_time(world.settings.duplicate_window)
        assert await world.bus.queue.submit(wanted)


class TestMemoryLog(LogContract):
    """`Log` in memory."""


class TestMemoryLiveAndState(LiveAndStateContract):
    """The rest in memory."""


async def test_one_name_is_one_bus_while_it_is_open() -> None:
    named = BusSettings(url="memory://shared")
    async with open_bus(named, name="a") as one, open_bus(named, name="b") as two:
        await one.queue.submit(invocation())
        assert await two.queue.backlog()
    async with open_bus(named, name="c") as three:
        assert not await three.queue.backlog()


async def test_without_a_name_everybody_has_their_own() -> None:
    settings = BusSettings(url="memory://")
    async with open_bus(settings, name="a") as one, open_bus(settings, name="b") as two:
        await one.queue.submit(invocation())
        assert not await two.queue.backlog()


async def test_the_real_clock_ends_leases_and_delays() -> None:
    short = BusSettings(url="memory://clock", lease=timedelta(milliseconds=5))
    long = short.model_copy(update={"lease": timedelta(hours=1)})
    async with (
        open_bus(short, name="a") as bus,
        open_bus(long, name="b") as other,
        storing_retries(bus),
        bus.queue.leases(ServiceName("s"), slots=1) as holder,
        other.queue.leases(ServiceName("s"), slots=1) as leases,
    ):
        await bus.queue.submit(invocation(ServiceName("s")))
        first = await anext(aiter(holder))
        second = await anext(aiter(leases))
        assert (first.attempt, second.attempt) == (1, 2)
        await second.retry(timedelta(milliseconds=2), "again")
        third = await anext(aiter(leases))
        assert third.failures == 1
