"""Runs again what has ended: retry, redrive and replay append a new Event that is linked to the old Invocation.

The new Event's id is derived, so asking twice for the same thing (a dead letter, one replay) makes one Invocation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill_common.bus import Log
from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName, derive_id
from tidemill_common.contracts.event import OBJECT_CREATED, RECEIVED, ArtifactRef, EventReceived, Lane
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, invocation_id
from tidemill_common.errors import ConflictError, NotFoundError
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.invocations import InvocationFilter, InvocationQueries
from tidemill_gateway.ports import PayloadStore

_LOOK_BACK: Final = (timedelta(minutes=1), timedelta(hours=1), None)
"""How long before its `requested` an Event may have been stored: routing is usually at once, but may have been down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What an operator puts in the place of the old Event's input."""

    payload: bytes | None = None
    content_type: str | None = None
    artifact: ArtifactRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """An old Invocation with its Event, and which repeat of it this is."""

    event: EventReceived
    invocation: InvocationId
    service: ServiceName
    number: str

    def again(self, now: datetime, principal: str) -> EventReceived:
        """The Event that repeats it."""
        changed = {
            "id": EventId(derive_id("redrive", self.invocation, self.number)),
            "time": now,
            "service": self.service,
            "lane": Lane.BATCH,
            "deadline": None,
            "reply_to": None,
            "traceparent": None,
            "principal": principal,
            "redrive_of": self.invocation,
        }
        return self.event.model_copy(update=changed)


class Repeats:
    """Appends Events that repeat old ones."""

    def __init__(
        self,
        *,
        bus_log: Log,
        queries: InvocationQueries,
        payloads: PayloadStore,
        inline_limit_bytes: int,
        principal: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = bus_log
        self._queries = queries
        self._payloads = payloads
        self._inline_limit = inline_limit_bytes
        self._principal = principal
        self._now = now

    async def retry(self, row: InvocationRow) -> InvocationId:
        """Run an ended Invocation again.

        Raises:
            ConflictError: It has not ended.
            NotFoundError: Its Event is not kept any more.
        """
        if not row.is_terminal:
            raise ConflictError(f"invocation {row.id} has not ended: it is {row.phase}")
        before = await self._queries.count(InvocationFilter(redrive_of=row.id, hidden=True))
        event = await self._event_of(row)
        return await self.append(Repeat(event=event, invocation=row.id, service=row.service, number=str(before + 1)))

    async def append(self, repeat: Repeat, edit: Edit | None = None) -> InvocationId:
        """Append the Event of a repeat, and return the new Invocation's id."""
        event = repeat.again(self._now(), self._principal)
        if edit is not None:
            event = await self._edited(event, edit)
        await self._log.append(RECEIVED, event, key=repeat.service, message_id=event.id)
        return invocation_id(event.id, repeat.service, DIRECT_TRIGGER)

    async def _edited(self, event: EventReceived, edit: Edit) -> EventReceived:
        changed: dict[str, object] = {}
        if edit.artifact is not None:
            changed |= {"artifact": edit.artifact, "subject": edit.artifact.key, "data": None, "data_ref": None}
        if edit.payload is not None:
            inline = len(edit.payload) <= self._inline_limit
            stored = None if inline else await self._payloads.put(event.id, edit.payload, edit.content_type)
            changed |= {"data": edit.payload if inline else None, "data_ref": stored}
            changed |= {"data_content_type": edit.content_type}
            if edit.artifact is None:
                changed |= {"artifact": None, "subject": None}
        return event.model_copy(update=changed)

    async def _event_of(self, row: InvocationRow) -> EventReceived:
        if row.event_id is not None:
            for back in _LOOK_BACK:
                found = await self._search(row, row.requested_at - back if back else None)
                if found is not None:
                    return found
        if row.input is None:
            raise NotFoundError(f"the event of invocation {row.id} is not kept any more")
        return _rebuilt(row, row.input)

    async def _search(self, row: InvocationRow, start: datetime | None) -> EventReceived | None:
        key = row.service if row.trigger == DIRECT_TRIGGER else row.input.bucket if row.input else None
        async with self._log.read(RECEIVED, start=start, key=key) as records:
            async for record in records:
                if record.body.id == row.event_id:
                    return record.body
                if start is not None and record.time > row.requested_at + timedelta(minutes=1):
                    return None
        return None


def _rebuilt(row: InvocationRow, artifact: ArtifactRef) -> EventReceived:
    """An Event as good as the lost one: it told of this object."""
    return EventReceived(
        id=EventId(row.event_id or row.id),
        source="/gateway",
        type=OBJECT_CREATED,
        subject=artifact.key,
        time=row.requested_at,
        artifact=artifact,
        service=row.service,
    )
