"""Reads EVENTS: what arrived, for whom; and replays a stretch of it for one Service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.event import OBJECT_REMOVED, RECEIVED, EventReceived
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, invocation_id
from tidemill_common.contracts.service import Service
from tidemill_gateway.repeats import Repeat, Repeats

SCAN_LIMIT: Final = 20_000
"""Records that one page may look at; a page may be short or empty and still have a next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which Events; None: any."""

    service: Service | None = None
    """Those that are for it, directly or by a Trigger as it is defined now."""
    bucket: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, event: EventReceived) -> bool:
        """Whether an Event is one of these; time is told by the log."""
        if self.bucket is not None and (event.artifact is None or event.artifact.bucket != self.bucket):
            return False
        return self.service is None or trigger_of(event, self.service) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some Events, oldest first."""

    records: Sequence[Record[EventReceived]]
    next: Position | None = None
    """Where the next page begins; None: that was all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did."""

    matched: int
    appended: int


def trigger_of(event: EventReceived, service: Service) -> str | None:
    """Through which Trigger this Event invokes this Service; None: not at all."""
    if event.service is not None:
        return DIRECT_TRIGGER if event.service == service.name else None
    if event.artifact is None or event.type == OBJECT_REMOVED:
        return None
    artifact = event.artifact
    return next((entry.trigger for entry in service.input if entry.matches(artifact)), None)


class Events:
    """The log of what arrived."""

    def __init__(self, bus_log: Log) -> None:
        self._log = bus_log

    async def page(self, wanted: EventFilter, *, start: int | None = None, limit: int = 50) -> EventPage:
        """A page from a position, or from the filter's `since`."""
        found: list[Record[EventReceived]] = []
        scanned = 0
        begin = Position(start) if start else wanted.since
        async with self._log.read(RECEIVED, start=begin, key=_key(wanted)) as records:
            async for record in records:
                if wanted.until is not None and record.time >= wanted.until:
                    break
                if len(found) == limit or scanned == SCAN_LIMIT:
                    return EventPage(records=found, next=record.position)
                scanned += 1
                if wanted.matches(record.body):
                    found.append(record)
        return EventPage(records=found)

    async def get(self, position: int) -> Record[EventReceived]:
        """One Event.

        Raises:
            NotFoundError: Nothing is kept at this position.
        """
        return await self._log.get(RECEIVED, Position(position))

    async def replay(self, wanted: EventFilter, service: Service, repeats: Repeats, *, replay_id: str) -> Replayed:
        """Run the Service again for each Event of a stretch. The same `replay_id` again adds nothing twice."""
        matched = appended = 0
        async with aclosing(self._all(wanted)) as records:
            async for record in records:
                trigger = trigger_of(record.body, service)
                if trigger is None or record.body.redrive_of is not None:  # repeats of what is in the log already
                    continue
                matched += 1
                old = invocation_id(record.body.id, service.name, trigger)
                again = Repeat(event=record.body, invocation=old, service=service.name, number=f"replay.{replay_id}")
                appended += await repeats.append(again) is not None
        return Replayed(matched=matched, appended=appended)

    async def _all(self, wanted: EventFilter) -> AsyncGenerator[Record[EventReceived], None]:
        async with self._log.read(RECEIVED, start=wanted.since, key=_key(wanted)) as records:
            async for record in records:
                if wanted.until is not None and record.time >= wanted.until:
                    return
                if wanted.matches(record.body):
                    yield record


def _key(wanted: EventFilter) -> str | None:
    """The one key that all such Events have, if there is one."""
    if wanted.bucket is not None:
        return wanted.bucket
    if wanted.service is not None and not wanted.service.input:
        return wanted.service.name
    return None
