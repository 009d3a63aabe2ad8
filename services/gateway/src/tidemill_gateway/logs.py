"""Reads what user code wrote, from LOGS, as long as LOGS keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from tidemill_common.bus import Log, Position
from tidemill_common.contracts.invocation import LOG_WRITTEN, LogWritten


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of one Attempt."""

    at: datetime
    attempt: int
    number: int
    """From 0, within the Attempt."""
    text: str


class InvocationLogs:
    """The output of single Invocations."""

    def __init__(self, bus_log: Log) -> None:
        self._log = bus_log

    async def lines(self, service: str, invocation: str) -> AsyncIterator[LogLine]:
        """The lines that are kept, in the order they arrived; lines told again are left out."""
        seen: dict[int, int] = {}
        async with self._log.read(LOG_WRITTEN, key=f"{service}.{invocation}") as records:
            async for record in records:
                for line in new_lines(record.body, seen):
                    yield line

    async def text(self, service: str, invocation: str, *, timestamps: bool = False) -> str | None:
        """The log as one text; None: nothing is kept."""
        lines = [formatted(line, timestamps=timestamps) async for line in self.lines(service, invocation)]
        return "\n".join(lines) + "\n" if lines else None

    async def records(
        self, service: str, invocation: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[tuple[Position, LogWritten]]:
        """Records after a position; `follow`: then those that arrive, until the caller stops."""
        start = Position(after + 1) if after else None
        key = f"{service}.{invocation}"
        async with self._log.read(LOG_WRITTEN, start=start, key=key, follow=follow) as records:
            async for record in records:
                yield record.position, record.body


def new_lines(written: LogWritten, seen: dict[int, int]) -> list[LogLine]:
    """The lines of a record that were not seen yet; `seen`: Attempt -> next line's number, brought up to date."""
    expected = seen.get(written.attempt, 0)
    lines = [
        LogLine(at=written.at, attempt=written.attempt, number=number, text=text)
        for number, text in enumerate(written.lines, written.first_line)
        if number >= expected
    ]
    seen[written.attempt] = max(expected, written.first_line + len(written.lines))
    return lines


def formatted(line: LogLine, *, timestamps: bool) -> str:
    """A line as text; with its instant in RFC 3339 when wanted."""
    return f"{line.at.isoformat().replace('+00:00', 'Z')} {line.text}" if timestamps else line.text
