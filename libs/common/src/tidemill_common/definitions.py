"""What the bus says of a Service, for those whose own picture of it may be behind."""

from __future__ import annotations

from tidemill_common.bus import Log
from tidemill_common.contracts.service import DEFINED


async def is_removed(bus_log: Log, name: str) -> bool:
    """Whether a Service's newest definition is a removal.

    Neither a database that does not know a Service nor a reader of definitions that last heard of its removal is proof:
    it may have been defined anew a moment ago, and have work already.
    """
    async with bus_log.read(DEFINED, key=name) as records:
        newest = [record.body async for record in records]
    return bool(newest) and newest[-1].service is None
