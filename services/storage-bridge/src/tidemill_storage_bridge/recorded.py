"""What EVENTS tells of earlier times: the ids of one source, and the objects of a bucket."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tidemill_common.bus import Log, Position
from tidemill_common.contracts.event import RECEIVED
from tidemill_storage_bridge.domain.gaps import KnownObjects


class RecordedObjects:
    """The content that EVENTS knows under some keys, read on as EVENTS grows."""

    def __init__(self, log: Log, keys: Iterable[str], *, since: datetime | None) -> None:
        self.known = KnownObjects()
        self._log = log
        self._next: dict[str, Position | datetime | None] = dict.fromkeys(keys, since)

    async def read_on(self) -> None:
        """Take up what was stored since the last call."""
        for key, start in list(self._next.items()):
            async with self._log.read(RECEIVED, start=start, key=key) as records:
                async for record in records:
                    self.known.add(record.body)
                    self._next[key] = Position(record.position + 1)


async def recorded_ids(log: Log, source: str, since: datetime) -> frozenset[str]:
    """Ids of the Events of one source that were stored at `since` or later."""
    async with log.read(RECEIVED, start=since) as records:
        return frozenset([record.body.id async for record in records if record.body.source == source])
