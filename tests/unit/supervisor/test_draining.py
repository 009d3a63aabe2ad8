"""Being asked over the bus to drain."""

from __future__ import annotations

import asyncio

from tidemill_common.bus.addresses import drain_subject
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.settings import BusSettings
from tidemill_supervisor.draining import follow_drain


async def test_a_worker_hears_what_it_is_asked_itself() -> None:
    asked = asyncio.Event()
    mine = drain_subject(ServiceName("gray"), WorkerId("gray-1"))
    other = drain_subject(ServiceName("gray"), WorkerId("gray-2"))
    async with open_bus(BusSettings(url="memory://draining"), name="test") as bus:
        task = asyncio.create_task(follow_drain(bus.live, mine, asked.set))
        await asyncio.sleep(0)
        await bus.live.publish(other, b"{}")
        await asyncio.sleep(0)
        assert not asked.is_set()
        await bus.live.publish(mine, b"{}")
        await asyncio.wait_for(asked.wait(), 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
