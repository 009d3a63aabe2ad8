"""Time for the in-process bus: the real one, or one that a test moves."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol


class Clock(Protocol):
    """What time it is, and a call when it is later."""

    def now(self) -> datetime: ...

    def call_at(self, when: datetime, call: Callable[[], None]) -> None:
        """Call once, at `when` or soon after. Whoever no longer wants it ignores the call."""
        ...


class LoopClock:
    """The real time."""

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def call_at(self, when: datetime, call: Callable[[], None]) -> None:
        """Call from the event loop."""
        asyncio.get_running_loop().call_later(max((when - self.now()).total_seconds(), 0), call)


class ManualClock:
    """Stands still until `advance`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:  # an immutable value
        self._now = start
        self._calls: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()

    def now(self) -> datetime:
        """Where the clock stands."""
        return self._now

    def call_at(self, when: datetime, call: Callable[[], None]) -> None:
        """Call from `advance`."""
        heapq.heappush(self._calls, (when, next(self._order), call))

    def advance(self, by: timedelta) -> None:
        """Move on, making the calls that fall due, each at its time."""
        end = self._now + by
        while self._calls and self._calls[0][0] <= end:
            when, _, call = heapq.heappop(self._calls)
            self._now = max(self._now, when)
            call()
        self._now = end
