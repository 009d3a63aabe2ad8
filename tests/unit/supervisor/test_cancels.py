"""Cancellations are known as far back as an Invocation needs, and not read beyond."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from tests.unit.supervisor.builders import NAME, identified
from tidemill_common.bus import Bus
from tidemill_common.bus.memory import ManualClock, open_memory
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import Change, InvocationChanged, changed_subject
from tidemill_common.settings import BusSettings
from tidemill_supervisor.cancels import Cancels

HOUR = timedelta(hours=1)


async def cancel(bus: Bus, name: str, at: datetime) -> InvocationId:
    """As the gateway does."""
    record = InvocationChanged(invocation_id=identified(name), service=NAME, change=Change.CANCELLED, at=at)
    await bus.log.append(changed_subject(Change.CANCELLED), record, key=NAME)
    return record.invocation_id


@contextlib.asynccontextmanager
async def following(bus: Bus, clock: ManualClock, heard: list[str]) -> AsyncIterator[Cancels]:
    """Cancellations, followed from now on."""
    cancels = Cancels(bus.log, NAME, now=clock.now(), on_cancel=heard.append)
    task = asyncio.create_task(cancels.follow())
    await cancels.caught_up()
    try:
        yield cancels
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_past_is_read_as_far_as_it_is_asked_for_and_once() -> None:
    clock, heard = ManualClock(), list[str]()
    async with open_memory(BusSettings(url="memory://"), clock=clock) as bus:
        oldest = await cancel(bus, "oldest", clock.now())
        clock.advance(HOUR)
        older = await cancel(bus, "older", clock.now())
        clock.advance(HOUR)
        await cancel(bus, "recent", clock.now())
        async with following(bus, clock, heard) as cancels:
            assert heard == ["recent"]
            await cancels.reach(clock.now())
            assert heard == ["recent"]
            await asyncio.gather(*(cancels.reach(clock.now() - HOUR) for _ in range(3)))
            assert (heard, older in cancels, oldest in cancels) == (["recent", "older"], True, False)
            await cancels.reach(clock.now() - 2 * HOUR)
            assert heard == ["recent", "older", "oldest"]
            await cancels.reach(clock.now() - HOUR)
            assert len(heard) == 3


async def test_what_comes_is_told_also_after_reaching_back() -> None:
    clock, heard = ManualClock(), list[str]()
    async with open_memory(BusSettings(url="memory://"), clock=clock) as bus:
        await cancel(bus, "old", clock.now())
        clock.advance(HOUR)
        async with following(bus, clock, heard) as cancels, asyncio.timeout(10):
            await cancels.reach(clock.now() - HOUR)
            new = await cancel(bus, "new", clock.now())
            while new not in cancels:
                await asyncio.sleep(0)
        assert heard == ["old", "new"]
