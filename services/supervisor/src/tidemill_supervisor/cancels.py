"""Which Invocations of a Service were cancelled: read from the start of LIFECYCLE, then followed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import Change, InvocationChanged, changed_subject

_REMEMBERED: Final = 200_000
"""Beyond it the oldest are forgotten; the projection keeps them cancelled whatever a Worker does."""
_CANCELLED: Final = changed_subject(Change.CANCELLED)


class Cancels:
    """The cancelled Invocations of one Service."""

    def __init__(self, bus_log: Log, service: ServiceName, *, on_cancel: Callable[[InvocationId], None]) -> None:
        self._log = bus_log
        self._service = service
        self._on_cancel = on_cancel
        self._known: OrderedDict[InvocationId, None] = OrderedDict()
        self._caught_up = asyncio.Event()

    def __contains__(self, invocation: object) -> bool:
        return invocation in self._known

    async def caught_up(self) -> None:
        """Return when all that was cancelled before the start is known."""
        await self._caught_up.wait()

    async def follow(self) -> None:
        """Read cancellations as they come, for ever."""
        last: Position | None = None
        async with self._log.read(_CANCELLED, key=self._service) as records:
            async for record in records:
                last = self._take(record)
        self._caught_up.set()
        start = None if last is None else Position(last + 1)
        async with self._log.read(_CANCELLED, key=self._service, start=start, follow=True) as records:
            async for record in records:
                self._take(record)

    def _take(self, record: Record[InvocationChanged]) -> Position:
        invocation = record.body.invocation_id
        self._known[invocation] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self._on_cancel(invocation)
        return record.position
