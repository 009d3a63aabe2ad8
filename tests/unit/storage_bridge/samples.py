"""Values that several tests of the storage-bridge begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from tidemill_common.bus import Bus
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.contract import EventId, ServiceName
from tidemill_common.contracts.event import RECEIVED, SERVICE_CALLED, ArtifactRef, EventReceived, event_key
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined, StorageIO
from tidemill_common.settings import BusSettings
from tidemill_storage_bridge.domain.objects import object_created

NOW = datetime(2026, 3, 4, 10, tzinfo=UTC)


@asynccontextmanager
async def memory_bus() -> AsyncIterator[Bus]:
    async with open_memory(BusSettings(url="memory://")) as bus:
        yield bus


def stored(path: str, *, version: str = "1", etag: str | None = None, time: datetime = NOW) -> EventReceived:
    return object_created("/sources/test", ArtifactRef(path=path, etag=etag), version=version, time=time)


def called(service: str, *, reply_to: str | None = None) -> EventReceived:
    return EventReceived(
        id=EventId(f"call-{service}"),
        source="/gateway",
        type=SERVICE_CALLED,
        time=NOW,
        service=ServiceName(service),
        reply_to=reply_to,
    )


async def append(bus: Bus, *events: EventReceived) -> None:
    for event in events:
        await bus.log.append(RECEIVED, event, key=event_key(event), message_id=event.id)


async def define(bus: Bus, name: str, *paths: str, removed: bool = False, at: datetime = NOW) -> None:
    entries = tuple(StorageIO(path=path) for path in paths)
    service = Service(name=ServiceName(name), image="i", script="s", owner="ana", input=entries)
    defined = ServiceDefined(name=service.name, revision=3, at=at, service=None if removed else service)
    await bus.log.append(DEFINED, defined, key=name)


async def known_events(bus: Bus) -> list[EventReceived]:
    async with bus.log.read(RECEIVED) as records:
        return [record.body async for record in records]
