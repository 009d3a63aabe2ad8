"""What every log, live channel, register and table of Streams promises."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.bus.world import World, event, next_of, soon, takes
from tidemill_common.bus import Bus, Position, StreamAction
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import InvocationId, ServiceName, Subject
from tidemill_common.contracts.event import RECEIVED
from tidemill_common.contracts.invocation import (
    CHANGED,
    LOG_WRITTEN,
    Change,
    InvocationChanged,
    LogWritten,
    changed_subject,
)
from tidemill_common.contracts.service import DEFINED, ServiceDefined
from tidemill_common.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    UnsupportedError,
)


async def fill(world: World, number: int, *, key: str = "photos") -> list[str]:
    """Append new Events one after the other; their ids."""
    events = [event() for _ in range(number)]
    for each in events:
        await world.bus.log.append(RECEIVED, each, key=key, message_id=each.id)
    return [each.id for each in events]


async def append_until_refused(bus: Bus) -> None:
    """Append until the log is full, or far beyond."""
    for _ in range(100):
        await bus.log.append(RECEIVED, event(), key="a")


class LogContract:
    """Behaviour of `Log`."""

    async def test_positions_grow_from_one(self, world: World) -> None:
        assert [await world.bus.log.append(RECEIVED, event(), key="photos") for _ in range(3)] == [1, 2, 3]

    async def test_the_same_id_is_stored_once(self, world: World) -> None:
        one = event()
        assert await world.bus.log.append(RECEIVED, one, key="a", message_id="m") == 1
        assert await world.bus.log.append(RECEIVED, one, key="a", message_id="m") is None
        assert await world.bus.log.end(RECEIVED) == (1, 1)

    async def test_reading_ends_at_what_was_the_end(self, world: World) -> None:
        ids = await fill(world, 5)
        async with world.bus.log.read(RECEIVED) as records:
            await fill(world, 1)
            assert [record.body.id async for record in records] == ids

    async def test_reading_an_empty_log_ends(self, world: World) -> None:
        async with world.bus.log.read(RECEIVED) as records:
            assert [record async for record in records] == []

    async def test_more_than_one_batch_is_read_in_order(self, world: World) -> None:
        events = [event() for _ in range(1500)]
        await asyncio.gather(*(world.bus.log.append(RECEIVED, each, key="a", message_id=each.id) for each in events))
        async with world.bus.log.read(RECEIVED) as records:
            read = [record async for record in records]
        assert [record.position for record in read] == list(range(1, 1501))
        assert {record.body.id for record in read} == {each.id for each in events}

    async def test_reading_from_a_position(self, world: World) -> None:
        ids = await fill(world, 5)
        async with world.bus.log.read(RECEIVED, start=Position(3)) as records:
            assert [(record.position, record.body.id) async for record in records] == list(
                zip([3, 4, 5], ids[2:], strict=True)
            )

    async def test_reading_from_a_time(self, world: World) -> None:
        await fill(world, 2)
        await world.pass_time(timedelta(milliseconds=20))
        since = world.now()
        await world.pass_time(timedelta(milliseconds=20))
        ids = await fill(world, 2)
        async with world.bus.log.read(RECEIVED, start=since) as records:
            assert [record.body.id async for record in records] == ids

    async def test_reading_beyond_the_end_ends(self, world: World) -> None:
        await fill(world, 2)
        async with world.bus.log.read(RECEIVED, start=Position(10)) as records:
            assert [record async for record in records] == []

    async def test_reading_one_key(self, world: World) -> None:
        wanted = await fill(world, 2, key="mine")
        await fill(world, 2, key="others")
        wanted += await fill(world, 1, key="mine")
        await fill(world, 1, key="others")
        async with world.bus.log.read(RECEIVED, key="mine") as records:
            assert [record.body.id async for record in records] == wanted

    async def test_a_key_that_is_no_token_is_found_by_itself(self, world: World) -> None:
        wanted = await fill(world, 1, key="a.b/c")
        async with world.bus.log.read(RECEIVED, key="a.b/c") as records:
            assert [record.body.id async for record in records] == wanted

    async def test_following_goes_on_with_what_arrives(self, world: World) -> None:
        ids = await fill(world, 2)
        async with world.bus.log.read(RECEIVED, follow=True) as records:
            assert [record.body.id for record in await takes(records, 2)] == ids
            ids = await fill(world, 3)
            assert [record.body.id for record in await takes(records, 3)] == ids

    async def test_all_changes_of_one_service_are_read_together(self, world: World) -> None:
        for service in ("a", "b"):
            for change in (Change.REQUESTED, Change.STARTED):
                body = InvocationChanged(
                    invocation_id=InvocationId("i"), service=ServiceName(service), change=change, at=datetime.now(UTC)
                )
                await world.bus.log.append(changed_subject(change), body, key=service)
        async with world.bus.log.read(CHANGED, key="b") as records:
            assert [(record.body.service, record.body.change) async for record in records] == [
                ("b", Change.REQUESTED),
                ("b", Change.STARTED),
            ]

    async def test_logs_are_read_by_service_and_by_invocation(self, world: World) -> None:
        for number in (1, 2):
            body = LogWritten(
                invocation_id=InvocationId(f"i{number}"),
                service=ServiceName("s"),
                attempt=1,
                first_line=0,
                at=datetime.now(UTC),
                lines=(f"line {number}",),
            )
            await world.bus.log.append(LOG_WRITTEN, body, key=f"s.i{number}")
        async with world.bus.log.read(LOG_WRITTEN, key="s") as records:
            assert [record.body.lines async for record in records] == [("line 1",), ("line 2",)]
        async with world.bus.log.read(LOG_WRITTEN, key="s.i2") as records:
            assert [record.body.lines async for record in records] == [("line 2",)]

    async def test_a_subject_for_reading_only_is_not_written(self, world: World) -> None:
        body = InvocationChanged(
            invocation_id=InvocationId("i"), service=ServiceName("s"), change=Change.STARTED, at=datetime.now(UTC)
        )
        with pytest.raises(InvalidInputError):
            await world.bus.log.append(CHANGED, body, key="s")

    async def test_only_the_newest_definition_of_a_service_is_kept(self, world: World) -> None:
        for revision in (1, 2):
            body = ServiceDefined(name=ServiceName("s"), revision=revision, at=datetime.now(UTC))
            await world.bus.log.append(DEFINED, body, key="s")
        async with world.bus.log.read(DEFINED) as records:
            assert [record.body.revision async for record in records] == [2]

    async def test_a_record_that_breaks_its_contract_is_skipped(self, world: World) -> None:
        misfit = Subject("event.v1.received.{key}", ServiceDefined)
        await world.bus.log.append(
            misfit, ServiceDefined(name=ServiceName("s"), revision=1, at=datetime.now(UTC)), key="a"
        )
        ids = await fill(world, 1)
        async with world.bus.log.read(RECEIVED) as records:
            assert [record.body.id async for record in records] == ids

    async def test_one_record_by_its_position(self, world: World) -> None:
        ids = await fill(world, 2)
        record = await world.bus.log.get(RECEIVED, Position(2))
        assert (record.position, record.body.id, record.subject) == (2, ids[1], "event.v1.received.photos")
        with pytest.raises(NotFoundError):
            await world.bus.log.get(RECEIVED, Position(3))

    async def test_a_deleted_record_is_gone(self, world: World) -> None:
        ids = await fill(world, 2)
        assert await world.bus.log.delete(RECEIVED, Position(2))
        assert not await world.bus.log.delete(RECEIVED, Position(2))
        async with world.bus.log.read(RECEIVED) as records:
            assert [record.body.id async for record in records] == ids[:1]

    async def test_the_end_of_an_empty_log(self, world: World) -> None:
        assert await world.bus.log.end(RECEIVED) == (1, 0)
        await fill(world, 1)
        assert await world.bus.log.end(RECEIVED) == (1, 1)
        await world.bus.log.delete(RECEIVED, Position(1))
        assert await world.bus.log.end(RECEIVED) == (2, 1)

    async def test_a_full_log_refuses_until_there_is_room(self, world: World) -> None:
        async with world.other(events_max_bytes=4000) as bus:
            await bus.streams.apply(await bus.streams.plan())
            with pytest.raises(ThrottledError) as refusal:
                await append_until_refused(bus)
            assert refusal.value.retry_after
            await bus.log.delete(RECEIVED, Position(1))
            assert await bus.log.append(RECEIVED, event(), key="a") is not None

    async def test_consumers_of_one_name_share(self, world: World) -> None:
        ids = await fill(world, 40)
        seen: list[str] = []
        done = asyncio.Event()

        async def consume() -> None:
            async with (
                world.other() as bus,
                bus.log.consume(RECEIVED, consumer="bridge-routing", in_flight=4) as deliveries,
            ):
                async for delivery in deliveries:
                    seen.append(delivery.record.body.id)
                    await delivery.ack()
                    if len(seen) >= len(ids):
                        done.set()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await soon(done.wait())
        for consumer in consumers:
            consumer.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        assert sorted(seen) == sorted(ids)

    async def test_consumers_of_different_names_see_everything(self, world: World) -> None:
        ids = await fill(world, 3)
        for name in ("one", "two"):
            async with world.bus.log.consume(RECEIVED, consumer=name) as deliveries:
                assert [delivery.record.body.id for delivery in await takes(deliveries, 3)] == ids

    async def test_what_is_refused_comes_again_with_the_next_number(self, world: World) -> None:
        await fill(world, 1)
        async with world.bus.log.consume(RECEIVED, consumer="c") as deliveries:
            first = await next_of(deliveries)
            await first.nak()
            second = await next_of(deliveries)
            assert (first.number, second.number) == (1, 2)
            await second.nak(timedelta(seconds=1))
            await world.pass_time(timedelta(seconds=1))
            third = await next_of(deliveries)
            assert (third.number, third.record.position) == (3, 1)
            await third.ack()

    async def test_a_consumer_goes_on_where_it_ended(self, world: World) -> None:
        ids = await fill(world, 3)
        async with world.bus.log.consume(RECEIVED, consumer="c", in_flight=1) as deliveries:
            delivery = await next_of(deliveries)
            await delivery.ack()
        async with world.bus.log.consume(RECEIVED, consumer="c", in_flight=1) as deliveries:
            read = []
            for _ in range(2):
                delivery = await next_of(deliveries)
                read.append(delivery.record.body.id)
                await delivery.ack()
        assert read == ids[1:]

    async def test_no_more_is_in_flight_than_asked_for(self, world: World) -> None:
        await fill(world, 5)
        async with world.bus.log.consume(RECEIVED, consumer="c", in_flight=2) as deliveries:
            first, _ = await takes(deliveries, 2)
            coming = asyncio.ensure_future(anext(deliveries))
            await asyncio.wait([coming], timeout=world.quiet)
            assert not coming.done()
            await first.ack()
            await soon(coming)


class LiveAndStateContract:
    """Behaviour of `Live`, `Registers` and `Streams`."""

    async def test_live_messages_reach_who_listens(self, world: World) -> None:
        await world.bus.live.publish("live.worker.s.1", b"unheard")
        async with world.other() as other, other.live.subscribe("live.worker.*.*") as messages:
            await world.bus.live.publish("live.work.s", b"not asked for")
            await world.bus.live.publish("live.worker.s.1", b"heard")
            assert await next_of(messages) == ("live.worker.s.1", b"heard")

    async def test_a_register_is_set_only_at_its_revision(self, world: World) -> None:
        registers = world.bus.registers
        assert await registers.get("cursor.weed") is None
        first = await registers.put("cursor.weed", b"1", revision=0)
        with pytest.raises(ConflictError):
            await registers.put("cursor.weed", b"x", revision=0)
        second = await registers.put("cursor.weed", b"2", revision=first)
        with pytest.raises(ConflictError):
            await registers.put("cursor.weed", b"x", revision=first)
        third = await registers.put("cursor.weed", b"3")
        assert first < second < third
        found = await registers.get("cursor.weed")
        assert found is not None
        assert (found.value, found.revision) == (b"3", third)
        assert abs(found.time - world.now()) < timedelta(minutes=1)

    async def test_of_many_that_take_a_register_one_succeeds(self, world: World) -> None:
        results = await asyncio.gather(
            *(world.bus.registers.put("leader.scheduler", b"%d" % n, revision=0) for n in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, ConflictError) for result in results) == 9

    async def test_a_deleted_register_is_taken_anew(self, world: World) -> None:
        await world.bus.registers.put("a", b"", revision=0)
        await world.bus.registers.delete("a")
        await world.bus.registers.delete("a")
        assert await world.bus.registers.get("a") is None
        assert await world.bus.registers.put("a", b"", revision=0) > 0

    async def test_the_streams_are_as_the_table_says(self, world: World) -> None:
        assert list(await world.bus.streams.plan()) == []
        await ensure_streams(world.bus)

    async def test_a_change_is_planned_refused_at_start_and_applied(self, world: World) -> None:
        await fill(world, 1)
        async with world.other(events_max_age=timedelta(days=3)) as bus:
            (change,) = await bus.streams.plan()
            assert (change.stream, change.action) == ("EVENTS", StreamAction.UPDATE)
            assert change.fields.keys() == {"max_age"}
            with pytest.raises(UnsupportedError, match="EVENTS"):
                await ensure_streams(bus)
            await bus.streams.apply([change])
            assert list(await bus.streams.plan()) == []
            assert await bus.log.end(RECEIVED) == (1, 1)

    async def test_missing_streams_are_created_at_start(self, world: World) -> None:
        async with world.other(shards=world.settings.shards + 1) as bus:
            (change,) = await bus.streams.plan()
            assert change.action is StreamAction.CREATE
            await ensure_streams(bus)
            assert list(await bus.streams.plan()) == []
