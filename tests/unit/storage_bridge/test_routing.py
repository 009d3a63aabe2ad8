"""From Events to Invocations on WORK, on the in-memory bus.

Nothing follows DEFINITIONS here: an index that is late is the rule, and routing has to catch up by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.unit.storage_bridge.samples import append, called, define, memory_bus, stored
from tidemill_common.bus import Bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import OBJECT_REMOVED, Lane
from tidemill_common.contracts.invocation import CHANGED, Change, Invocation, InvocationChanged, Reason
from tidemill_common.errors import InvalidMessageError, ThrottledError, UnavailableError
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.routing import Router, RoutingRules


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with memory_bus() as opened:
        yield opened


@asynccontextmanager
async def routing(bus: Bus) -> AsyncIterator[None]:
    """A Router whose index is empty, drained at the end."""
    stopping = asyncio.Event()
    router = Router(bus, Definitions(bus.log), RoutingRules(system_bucket="tidemill", in_flight=8))
    task = asyncio.create_task(router.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def changes(bus: Bus, count: int) -> list[InvocationChanged]:
    """The first records on LIFECYCLE."""
    found: list[InvocationChanged] = []
    async with asyncio.timeout(5), bus.log.read(CHANGED, follow=True) as records:
        async for record in records:
            found.append(record.body)
            if len(found) == count:
                break
    return found


async def until_waiting(bus: Bus, service: str, count: int) -> None:
    async with asyncio.timeout(5):
        while (backlog := (await bus.queue.backlog()).get(ServiceName(service))) is None or backlog.ready < count:
            await asyncio.sleep(0)


async def queued(bus: Bus, service: str) -> list[Invocation]:
    backlog = (await bus.queue.backlog()).get(ServiceName(service))
    count = backlog.ready if backlog is not None else 0
    found: list[Invocation] = []
    async with bus.queue.leases(ServiceName(service), slots=16) as leases:
        while len(found) < count:
            lease = await anext(aiter(leases))
            found.append(lease.invocation)
            await lease.done()
    return found


class RefusingQueue:
    """A queue that refuses a few times."""

    def __init__(self, bus: Bus, *errors: Exception) -> None:
        self.leases, self.backlog, self.purge = bus.queue.leases, bus.queue.backlog, bus.queue.purge
        self.plan = bus.queue.plan
        self._queue, self._errors = bus.queue, list(errors)

    async def submit(
        self, invocation: Invocation, *, lane: Lane | None = None, not_before: datetime | None = None
    ) -> bool:
        if self._errors:
            raise self._errors.pop(0)
        return await self._queue.submit(invocation, lane=lane, not_before=not_before)


async def test_each_matching_service_gets_one_invocation(bus: Bus) -> None:
    await define(bus, "ocr", "data/in", "data/in/deep")
    await define(bus, "hash", "data")
    await define(bus, "other", "data/inner")
    await append(bus, stored("data/in/deep/a.txt"))
    async with routing(bus):
        records = await changes(bus, 2)
    assert sorted((record.service, record.trigger) for record in records) == [
        ("hash", "minio.default:data"),
        ("ocr", "minio.default:data/in/deep"),
    ]
    for record in records:
        (invocation,) = await queued(bus, record.service)
        assert (invocation.id, invocation.revision) == (record.invocation_id, 3)
        assert (record.change, record.owner, record.input) == (Change.REQUESTED, "ana", invocation.event.artifact)


async def test_removals_and_the_platforms_own_objects_trigger_nothing(bus: Bus) -> None:
    await define(bus, "all", "data", "tidemill")
    removed = stored("data/gone").model_copy(update={"type": OBJECT_REMOVED})
    await append(bus, removed, stored("tidemill/payloads/1"), stored("elsewhere/x"), stored("data/last"))
    async with routing(bus):
        (record,) = await changes(bus, 1)
    assert record.input is not None
    assert record.input.path == "data/last"
    assert len(await queued(bus, "all")) == 1


async def test_a_service_defined_after_routing_began_is_not_missed(bus: Bus) -> None:
    async with routing(bus):
        for number in range(10):
            await define(bus, f"s{number}", f"data/in{number}")
            await append(bus, stored(f"data/in{number}/x"))
            records = await changes(bus, number + 1)
            assert records[-1].service == f"s{number}"


async def test_a_direct_call_goes_to_its_service_alone(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await define(bus, "ocr2", "data/in")
    await append(bus, called("ocr").model_copy(update={"artifact": stored("data/in/x").artifact}))
    async with routing(bus):
        (record,) = await changes(bus, 1)
    assert (record.service, record.trigger) == ("ocr", "direct")
    assert await queued(bus, "ocr2") == []


async def test_a_call_of_a_service_that_is_gone_fails_visibly_and_the_caller_hears_it(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await define(bus, "ocr", removed=True)
    async with bus.live.subscribe("live.reply.gw.1") as replies, routing(bus):
        await append(bus, called("ocr", reply_to="live.reply.gw.1"))
        (record,) = await changes(bus, 1)
        async with asyncio.timeout(5):
            _, body = await anext(aiter(replies))
    assert (record.change, record.reason) == (Change.FAILED, Reason.SERVICE_REMOVED)
    assert InvocationChanged.decode(body) == record


async def test_routing_the_same_event_twice_is_the_same_as_once(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await append(bus, stored("data/in/x"))
    refusing = RefusingQueue(bus, UnavailableError("away", retry_after=timedelta(milliseconds=1)))
    async with routing(replace(bus, queue=refusing)):
        await changes(bus, 1)
        await append(bus, stored("data/in/y"))
        records = await changes(bus, 2)
        await until_waiting(bus, "ocr", 2)
    assert [record.input.path for record in records if record.input] == ["data/in/x", "data/in/y"]
    assert len(await queued(bus, "ocr")) == 2


async def test_a_full_queue_delays_events_and_loses_none(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await append(bus, *(stored(f"data/in/{number}") for number in range(10)))
    full = [ThrottledError("full", retry_after=timedelta(milliseconds=1)) for _ in range(15)]
    async with routing(replace(bus, queue=RefusingQueue(bus, *full))):
        await until_waiting(bus, "ocr", 10)
    assert {invocation.event.subject for invocation in await queued(bus, "ocr")} == {f"in/{n}" for n in range(10)}


async def test_what_can_never_be_queued_fails_visibly(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await append(bus, stored("data/in/x"))
    async with routing(replace(bus, queue=RefusingQueue(bus, InvalidMessageError("too large")))):
        records = await changes(bus, 2)
    assert [(record.change, record.reason) for record in records] == [
        (Change.REQUESTED, None),
        (Change.FAILED, Reason.INVALID_MESSAGE),
    ]


async def test_an_outage_of_the_queue_is_waited_for(bus: Bus) -> None:
    await define(bus, "ocr", "data/in")
    await append(bus, stored("data/in/x"))
    async with routing(replace(bus, queue=RefusingQueue(bus, UnavailableError("away", retry_after=timedelta(0))))):
        await until_waiting(bus, "ocr", 1)
    assert len(await queued(bus, "ocr")) == 1
