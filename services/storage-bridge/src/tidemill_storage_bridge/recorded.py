"""What the logs tell of earlier times: ids of one source, objects of a bucket, objects that one Service was run for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tidemill_common.bus import Log, Position
from tidemill_common.contracts.event import RECEIVED
from tidemill_common.contracts.invocation import Change, changed_subject
from tidemill_common.contracts.service import ServiceDefined
from tidemill_storage_bridge.domain.gaps import KnownObjects


class RecordedObjects:
    """The content that EVENTS knows under some keys, read on as EVENTS grows."""

    def __init__(
        self, log: Log, keys: Iterable[str], *, since: datetime | None, known: KnownObjects | None = None
    ) -> None:
        self.known = KnownObjects() if known is None else known
        self._log = log
        self._next: dict[str, Position | datetime | None] = dict.fromkeys(keys, since)

    async def read_on(self) -> None:
        """Take up what was stored since the last call."""
        for key, start in list(self._next.items()):
            async with self._log.read(RECEIVED, start=start, key=key) as records:
                async for record in records:
                    self.known.add(record.body)
                    self._next[key] = Position(record.position + 1)


class RequestedObjects:
    """The content that one Service was, or is being, invoked for; what was there before the Service is not among it."""

    def __init__(self, log: Log, definition: ServiceDefined, bucket: str) -> None:
        self.known = KnownObjects()
        self._log = log
        self._service = definition.name
        self._requested: Position | None = None
        self._routed = RecordedObjects(log, [definition.name], since=None, known=self.known)
        self._routing = RecordedObjects(log, [bucket], since=definition.at, known=self.known)

    async def read_on(self) -> None:
        """Take up what was stored since the last call."""
        subject = changed_subject(Change.REQUESTED)
        async with self._log.read(subject, start=self._requested, key=self._service) as records:
            async for record in records:
                if record.body.input is not None:
                    self.known.note(record.body.input, record.body.at)
                self._requested = Position(record.position + 1)
        await self._routed.read_on()
        await self._routing.read_on()


async def recorded_ids(log: Log, source: str, since: datetime) -> frozenset[str]:
    """Ids of the Events of one source that were stored at `since` or later."""
    async with log.read(RECEIVED, start=since) as records:
        return frozenset([record.body.id async for record in records if record.body.source == source])
