"""What a listing shows and EVENTS does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.unit.storage_bridge.samples import append, define, known_events, memory_bus
from tidemill_common.bus import Bus
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.contracts.invocation import Change, InvocationChanged, changed_subject
from tidemill_common.contracts.service import ServiceDefined
from tidemill_common.errors import NotFoundError
from tidemill_common.storage import ObjectInfo, ObjectStore
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.publishing import EventPublisher
from tidemill_storage_bridge.reconciliation import Reconciler, Wish
from tidemill_storage_bridge.sources.s3_listing import list_folder

HOUR = timedelta(hours=1)


class OneStore:
    """Every provider is this store; payloads are put aside nowhere."""

    def __init__(self, store: MemoryObjectStore) -> None:
        self.store = store

    @asynccontextmanager
    async def open(self, provider: str, definition: ServiceDefined | None = None) -> AsyncIterator[ObjectStore]:
        yield self.store

    async def put(self, event: EventReceived, data: bytes) -> ArtifactRef:
        raise AssertionError("nothing here is large")


class Place:
    """A bus, a store whose clock the test moves, and a Reconciler."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.now = datetime.now(UTC)
        self.store = MemoryObjectStore("data", now=lambda: self.now)
        stores = OneStore(self.store)
        publish = partial(EventPublisher(bus.log, stores).publish, source="listing")
        self.reconciler = Reconciler(
            bus.log, Definitions(bus.log), stores, publish, streamed=["minio.default"], now=lambda: self.now
        )

    async def subjects(self) -> list[str | None]:
        return [event.subject for event in await known_events(self.bus)]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with memory_bus() as bus:
        yield Place(bus)


async def test_what_events_does_not_know_is_submitted_once(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    for name in ("in/1", "in/2", "in/folder/3", "out/4", "in"):
        await place.store.put(f"data/{name}", b"x")
    first = await place.reconciler.service("ocr", Wish())
    again = await place.reconciler.service("ocr", Wish())
    assert (first.listed, first.missing, first.submitted) == (3, 3, 3)
    assert (again.listed, again.missing, again.submitted) == (3, 0, 0)
    assert sorted(subject or "" for subject in await place.subjects()) == ["in/1", "in/2", "in/folder/3"]


async def test_a_dry_run_only_counts(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    await place.store.put("data/in/1", b"x")
    report = await place.reconciler.service("ocr", Wish(dry_run=True))
    assert (report.missing, report.submitted) == (1, 0)
    assert await place.subjects() == []


async def test_content_written_again_is_missing_again(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    for _ in range(2):
        await place.store.put("data/in/1", b"x")
        assert (await place.reconciler.watched()).submitted == 1
        place.now += HOUR


async def test_objects_from_before_the_service_are_left_alone_unless_asked(place: Place) -> None:
    await place.store.put("data/in/old", b"x")
    place.now += HOUR
    await define(place.bus, "ocr", "data/in", at=place.now)
    await define(place.bus, "hash", "data/in", at=place.now)
    assert (await place.reconciler.watched("minio.default")).missing == 0
    report = await place.reconciler.service("ocr", Wish(backfill=True))
    assert (report.missing, report.submitted) == (1, 1)
    (event,) = await known_events(place.bus)
    assert (event.service, event.subject) == ("ocr", "in/old")
    assert (await place.reconciler.service("ocr", Wish(backfill=True))).missing == 0


async def test_a_backfill_runs_a_new_service_on_objects_that_others_had_before(place: Place) -> None:
    await define(place.bus, "hash", "data/in", at=place.now - HOUR)
    await place.store.put("data/in/old", b"x")
    assert (await place.reconciler.service("hash", Wish())).submitted == 1
    await define(place.bus, "ocr", "data/in", at=datetime.now(UTC) + HOUR)
    assert (await place.reconciler.service("ocr", Wish())).missing == 0
    report = await place.reconciler.service("ocr", Wish(backfill=True))
    assert (report.missing, report.submitted) == (1, 1)
    assert [(event.service, event.subject) for event in await known_events(place.bus)] == [
        (None, "in/old"),
        ("ocr", "in/old"),
    ]
    assert (await place.reconciler.service("ocr", Wish(backfill=True))).missing == 0


async def test_a_backfill_leaves_alone_what_the_service_was_run_for(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=datetime.now(UTC) + HOUR)  # as after an update: Events are older
    info = await place.store.put("data/in/old", b"x")
    artifact = ArtifactRef(path="data/in/old", etag=info.etag, size=1)
    record = InvocationChanged(
        invocation_id=InvocationId("i"),
        service=ServiceName("ocr"),
        change=Change.REQUESTED,
        at=datetime.now(UTC) + HOUR,
        input=artifact,
    )
    await place.bus.log.append(changed_subject(Change.REQUESTED), record, key="ocr")
    known = await place.reconciler.service("ocr", Wish(backfill=True, dry_run=True))
    assert (known.listed, known.missing) == (1, 0)


async def test_since_narrows_what_is_compared(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    await place.store.put("data/in/1", b"x")
    place.now += HOUR
    await place.store.put("data/in/2", b"x")
    report = await place.reconciler.service("ocr", Wish(since=place.now))
    assert report.submitted == 1
    assert await place.subjects() == ["in/2"]


async def test_a_listing_and_the_stream_give_the_same_id(place: Place) -> None:
    await place.store.put("data/in/1", b"x")
    listing = list_folder(place.store, "data/in", provider="minio.default", source="/sources/seaweedfs/minio.default")
    (listed,) = [found async for found in listing]
    await append(place.bus, listed.event)
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    assert (await place.reconciler.watched()).missing == 0


async def test_young_objects_of_stores_that_notify_are_left_to_their_notification(place: Place) -> None:
    reconciler = Reconciler(
        place.bus.log, Definitions(place.bus.log), OneStore(place.store), lambda event: never(), now=lambda: place.now
    )
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    await place.store.put("data/in/1", b"x")
    assert (await reconciler.watched()).missing == 0
    place.now += HOUR
    assert (await reconciler.service("ocr", Wish(dry_run=True))).missing == 1


async def never() -> bool:
    raise AssertionError("nothing is to be published")


async def test_one_unreadable_bucket_does_not_keep_the_others_from_being_compared(place: Place) -> None:
    await define(place.bus, "gone", "nowhere/in", at=place.now - HOUR)
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    await place.store.put("data/in/1", b"x")
    assert (await place.reconciler.watched()).submitted == 1
    with pytest.raises(NotFoundError):
        await place.reconciler.service("gone", Wish())
    with pytest.raises(NotFoundError, match="no such Service"):
        await place.reconciler.service("never", Wish())


async def test_what_a_source_publishes_during_a_long_listing_is_not_submitted_again(place: Place) -> None:
    await define(place.bus, "ocr", "data/in", at=place.now - HOUR)
    for number in range(3):
        await place.store.put(f"data/in/{number}", b"x")
    listing = list_folder(place.store, "data/in", provider="minio.default", source="/sources/seaweedfs/minio.default")
    events = [found.event async for found in listing]

    class Slow(MemoryObjectStore):
        async def list(self, prefix: str, *, after: str | None = None) -> AsyncIterator[ObjectInfo]:
            async for info in place.store.list(prefix, after=after):
                yield info
            forgotten = [event.model_copy(update={"id": f"other-{event.id}"}) for event in events]
            await append(place.bus, *forgotten)  # other ids: as if the bus no longer remembered the right ones

    stores = OneStore(Slow("data"))
    publish = partial(EventPublisher(place.bus.log, stores).publish, source="listing")
    reconciler = Reconciler(
        place.bus.log, Definitions(place.bus.log), stores, publish, streamed=["minio.default"], now=lambda: place.now
    )
    report = await reconciler.watched()
    assert (report.listed, report.missing, report.submitted) == (3, 0, 0)
