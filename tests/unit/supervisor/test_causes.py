"""Why the user's container ended, or the whole Worker must, as the scheduler tells it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from tidemill_common.bus.addresses import cause_subject
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.invocation import Reason
from tidemill_common.settings import BusSettings
from tidemill_supervisor.causes import Causes

SUBJECT = cause_subject(ServiceName("gray"), WorkerId("gray-1"))


async def test_nothing_was_told_until_something_is() -> None:
    causes = Causes(SUBJECT)
    assert causes.told() is None
    assert (await causes.first(timedelta(0))).reason is Reason.CONTAINER_ENDED
    assert causes.told() is None


async def test_the_newest_of_what_was_told_counts() -> None:
    causes = Causes(SUBJECT)
    async with open_bus(BusSettings(url="memory://causes"), name="test") as bus:
        following = asyncio.create_task(causes.follow(bus.live))
        await asyncio.sleep(0)
        for reason in ("PodDeleted", "Suspended"):
            await bus.live.publish(SUBJECT, json.dumps({"reason": reason, "message": "its room is taken"}).encode())
            await asyncio.sleep(0)
        first = await causes.first()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert causes.told() == first
    assert (first.reason, str(first)) == (Reason.EVICTED, "Suspended: its room is taken")
