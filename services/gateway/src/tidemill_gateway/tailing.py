"""Follows one Invocation live: how it is, whenever that changes, and what user code writes, until it has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tidemill_common.bus import Position
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import LogWritten
from tidemill_gateway.changes import Changes
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.logs import InvocationLogs

_KEEP_ALIVE: Final = 15.0
"""Seconds without news after which the client hears that we are still there."""
_LAST_LINES: Final = 0.3
"""Seconds to wait for lines that are stored after the end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a follower is; its text is the `id` of server-sent events."""

    change: int = 0
    log: int = 0

    def __str__(self) -> str:
        return f"{self.change}-{self.log}"

    @classmethod
    def parse(cls, text: str | None) -> Seen:
        """What `Last-Event-ID` says; anything else is the beginning."""
        change, _, log = (text or "").partition("-")
        return cls(int(change), int(log)) if change.isdigit() and log.isdigit() else cls()


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell; all None: nothing happened."""

    seen: Seen
    row: InvocationRow | None = None
    log: LogWritten | None = None
    ended: bool = False
    """The Invocation has ended and all is told."""


class Tails:
    """Opens tails."""

    def __init__(
        self, queries: InvocationQueries, logs: InvocationLogs, changes: Changes, stopping: asyncio.Event
    ) -> None:
        self._queries = queries
        self._logs = logs
        self._changes = changes
        self._stopping = stopping

    async def tail(self, row: InvocationRow, seen: Seen) -> AsyncGenerator[News, None]:
        """News after `seen`; ends when the Invocation has ended and its lines are told, or the gateway drains."""
        with self._changes.follow(row.id) as changed:
            row = await self._queries.get(row.id)  # what changed before we followed
            if row.position > seen.change:
                seen = Seen(row.position, seen.log)
                yield News(seen, row=row)
            async with self._lines(row, seen.log) as lines:
                while not row.is_terminal:
                    news = await self._next(row.id, changed, lines, seen)
                    if news is None:
                        return
                    row, seen = news.row or row, news.seen
                    yield news
                async for news in self._rest(row, lines, seen):
                    seen = news.seen
                    yield news
                yield News(seen, ended=True)

    async def _next(self, invocation: InvocationId, changed: asyncio.Event, lines: _Lines, seen: Seen) -> News | None:
        """What comes first: a line, a change, or nothing for a while; None: the gateway drains."""
        line = asyncio.ensure_future(lines.get())
        others = [asyncio.ensure_future(it) for it in (changed.wait(), self._stopping.wait())]
        try:
            done, _ = await asyncio.wait({line, *others}, timeout=_KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (line, *others):  # now: a line that it took while SQL answers would be lost
                task.cancel()
        if line in done:
            return _written(line.result(), seen)
        if changed.is_set():
            changed.clear()
            row = await self._queries.get(invocation)
            # SQL had it before we were told of it, so it may have been told already
            return News(Seen(row.position, seen.log), row=row if row.position != seen.change else None)
        return None if self._stopping.is_set() else News(seen)

    async def _rest(self, row: InvocationRow, lines: _Lines, seen: Seen) -> AsyncIterator[News]:
        """All that was written before the end, however long reading takes; and what comes within a moment."""
        async for item in self._logs.records(row.service, row.id, after=seen.log):
            news = _written(item, seen)
            seen = news.seen
            yield news
        with contextlib.suppress(TimeoutError):
            while True:
                item = await asyncio.wait_for(lines.get(), _LAST_LINES)
                if item[0] > seen.log:
                    news = _written(item, seen)
                    seen = news.seen
                    yield news

    @asynccontextmanager
    async def _lines(self, row: InvocationRow, after: int) -> AsyncIterator[_Lines]:
        lines: _Lines = asyncio.Queue(64)

        async def pump() -> None:
            async for item in self._logs.records(row.service, row.id, after=after, follow=True):
                await lines.put(item)

        pumping = asyncio.create_task(pump(), name="log-tail")
        try:
            yield lines
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)


_Lines = asyncio.Queue[tuple[Position, LogWritten]]


def _written(item: tuple[Position, LogWritten], seen: Seen) -> News:
    position, written = item
    return News(Seen(seen.change, position), log=written)
