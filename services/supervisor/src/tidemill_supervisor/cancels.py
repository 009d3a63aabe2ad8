"""Which Invocations of a Service were cancelled: followed from now on, and read as far back as they are asked for.

An Invocation is cancelled after it was requested. So a Worker starts as fast with a long log as with none, and reads of
it what happened since the oldest Invocation that it is given.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import Change, InvocationChanged, changed_subject

_REMEMBERED: Final = 200_000
"""Beyond it the oldest are forgotten; the projection keeps them cancelled whatever a Worker does."""
_SKEW: Final = timedelta(seconds=30)
"""By how much the clocks of those who request and of the bus may differ."""
_CANCELLED: Final = changed_subject(Change.CANCELLED)


class Cancels:
    """The cancelled Invocations of one Service."""

    def __init__(
        self, bus_log: Log, service: ServiceName, *, now: datetime, on_cancel: Callable[[InvocationId], None]
    ) -> None:
        self._log = bus_log
        self._service = service
        self._on_cancel = on_cancel
        self._known: OrderedDict[InvocationId, None] = OrderedDict()
        self._caught_up = asyncio.Event()
        self._since = now - _SKEW
        self._reaching = asyncio.Lock()

    def __contains__(self, invocation: object) -> bool:
        return invocation in self._known

    async def caught_up(self) -> None:
        """Return when all that was cancelled shortly before the start is known."""
        await self._caught_up.wait()

    async def reach(self, requested_at: datetime) -> None:
        """Return when it is known whether an Invocation was cancelled that was requested then."""
        if requested_at - _SKEW >= self._since:
            return
        async with self._reaching:
            await self._read_back(requested_at - _SKEW)

    async def follow(self) -> None:
        """Read cancellations as they come, for ever."""
        last: Position | None = None
        begin = self._since
        async with self._log.read(_CANCELLED, key=self._service, start=begin) as records:
            async for record in records:
                last = self._take(record)
        self._caught_up.set()
        start = begin if last is None else Position(last + 1)
        async with self._log.read(_CANCELLED, key=self._service, start=start, follow=True) as records:
            async for record in records:
                self._take(record)

    async def _read_back(self, start: datetime) -> None:
        if start >= self._since:
            return
        async with self._log.read(_CANCELLED, key=self._service, start=start) as records:
            async for record in records:
                if record.time >= self._since:
                    break
                self._take(record)
        self._since = start

    def _take(self, record: Record[InvocationChanged]) -> Position:
        invocation = record.body.invocation_id
        self._known[invocation] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self._on_cancel(invocation)
        return record.position
