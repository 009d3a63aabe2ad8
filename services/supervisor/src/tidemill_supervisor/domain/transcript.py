"""What a script wrote, within bounds: lines to ship, the last lines for records, the first text for an answer.

Memory is bounded whatever the script does: beyond `kept_bytes` lines are only counted. Every line has a number, so a
gap in the numbers is what was dropped. The last lines are always known, and shipped at the end.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Final

LINE_OVERHEAD_BYTES: Final = 64
"""What a line costs beside its text, so that millions of empty lines are bounded too."""
CUT: Final = " …[cut]"
NOTE: Final = "[tidemill] "


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """How much of an Attempt's output is kept."""

    kept_bytes: int = 4 * 1024**2
    line_bytes: int = 8 * 1024
    tail_bytes: int = 4 * 1024
    text_bytes: int = 1024**2
    record_bytes: int = 48 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines for one record."""

    first_line: int
    lines: tuple[str, ...]
    dropped_lines: int
    """Left out before these."""


class Transcript:
    """Collects the bytes of one Attempt; `take` hands out what is ready to be shipped."""

    def __init__(self, bounds: LogBounds) -> None:
        self._bounds = bounds
        self._kept = 0
        self._partial = b""
        self._cutting = False
        """The start of the current line is out already; the rest of it is not kept."""
        self._ready: deque[tuple[int, str]] = deque()
        self._next_number = 0
        self._next_kept = 0
        """One more than the number of the last line that was kept."""
        self._next_shipped = 0
        self._tail = bytearray()
        self._text = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take what the script wrote next."""
        room = self._bounds.text_bytes - len(self._text)
        if room > 0:
            self._text += chunk[:room]
        self._remember(chunk)
        if self._is_full:
            self._next_number += chunk.count(b"\n")
        else:
            self._split(chunk)

    def note(self, text: str) -> None:
        """Add a line of our own; never dropped, and no part of the script's text."""
        self._end_line()
        self._keep(f"{NOTE}{text}")
        self._remember(f"{NOTE}{text}\n".encode())

    def finish(self) -> None:
        """The script is gone: a last line without line end counts, and the last of the dropped lines are kept."""
        self._end_line()
        if self._is_full:
            self._next_number += bool(self._tail) and not self._tail.endswith(b"\n")
            last = self.tail.splitlines()
            last = last[max(0, len(last) - (self._next_number - self._next_kept)) :]
            self._next_number -= len(last)
            for line in last:
                self._keep(line)

    def take(self) -> Batch | None:
        """The next lines without a gap, as many as fit into one record; None: there are none."""
        if not self._ready:
            return None
        first = number = self._ready[0][0]
        lines: list[str] = []
        size = 0
        while self._ready and self._ready[0][0] == number:
            size += len(json.dumps(self._ready[0][1], ensure_ascii=False).encode("utf-8", "replace"))
            if lines and size > self._bounds.record_bytes:
                break
            lines.append(self._ready.popleft()[1])
            number += 1
        dropped = first - self._next_shipped
        self._next_shipped = number
        return Batch(first_line=first, lines=tuple(lines), dropped_lines=dropped)

    @property
    def tail(self) -> str:
        """The last text, at most `tail_bytes` in UTF-8."""
        text = bytes(self._tail).decode("utf-8", "replace")
        return text.encode()[-self._bounds.tail_bytes :].decode("utf-8", "ignore")

    @property
    def text(self) -> bytes:
        """The first text as it was written, at most `text_bytes`."""
        return bytes(self._text)

    @property
    def _is_full(self) -> bool:
        return self._kept >= self._bounds.kept_bytes

    def _split(self, chunk: bytes) -> None:
        *complete, partial = (self._partial + chunk).split(b"\n")
        for line in complete:
            if self._cutting:
                self._cutting = False
            elif self._is_full:
                self._next_number += 1
            else:
                self._keep(self._decode(line))
        if self._cutting or self._is_full:
            partial = b""
        elif len(partial) > self._bounds.line_bytes:
            self._keep(self._decode(partial))
            self._cutting, partial = True, b""
        self._partial = partial

    def _end_line(self) -> None:
        if self._partial and not self._is_full:
            self._keep(self._decode(self._partial))
        self._partial, self._cutting = b"", False

    def _keep(self, line: str) -> None:
        self._ready.append((self._next_number, line))
        self._kept += len(line) + LINE_OVERHEAD_BYTES
        self._next_number += 1
        self._next_kept = self._next_number

    def _decode(self, line: bytes) -> str:
        limit = self._bounds.line_bytes
        text = line[:limit].removesuffix(b"\r").decode("utf-8", "replace")
        return text + CUT if len(line) > limit else text

    def _remember(self, chunk: bytes) -> None:
        limit = self._bounds.tail_bytes
        if len(chunk) >= limit:
            self._tail[:] = chunk[-limit:]
        else:
            self._tail += chunk
            del self._tail[:-limit]
