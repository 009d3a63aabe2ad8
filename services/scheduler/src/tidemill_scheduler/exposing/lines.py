"""Lines of a log with the times at their beginnings, as `launch`, Docker and Kubernetes write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tidemill_common.contracts.exposed import LogLine

_STAMPED: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)
_MAX_CHARACTERS: Final = 4096
_MAX_BYTES: Final = 384 * 1024
"""Of all lines together: they travel in one message."""
_CHUNK: Final = 64 * 1024


def parse(line: str) -> LogLine:
    """A line, with its time if it has one."""
    found = _STAMPED.fullmatch(line)
    if found is None:
        return LogLine(text=line[:_MAX_CHARACTERS])
    second, fraction, zone, text = found.groups()
    at = datetime.fromisoformat(f"{second}{(fraction or '.0')[:7]}{'+00:00' if zone == 'Z' else zone}")
    return LogLine(at=at.astimezone(UTC), text=text[:_MAX_CHARACTERS])


def newest(text: str, count: int) -> list[LogLine]:
    """The last lines of a text that fit into one message, oldest first."""
    found: list[LogLine] = []
    size = 0
    for line in reversed(text.splitlines()[-count:]):
        parsed = parse(line)
        size += len(parsed.text.encode()) + 64
        if size > _MAX_BYTES:
            break
        found.append(parsed)
    return found[::-1]


def tail(path: Path, count: int) -> list[LogLine]:
    """The last lines of a file, and of the one before it. Blocking.

    Raises:
        OSError: There is no such file.
    """
    text = _end_of(path, count)
    before = path.with_suffix(path.suffix + ".1")
    if text.count("\n") < count and before.exists():
        text = _end_of(before, count) + text
    return newest(text, count)


def _end_of(path: Path, count: int) -> str:
    with path.open("rb") as file:
        position = file.seek(0, 2)
        found = b""
        while position > 0 and found.count(b"\n") <= count and len(found) < 2 * _MAX_BYTES:
            step = min(_CHUNK, position)
            position -= step
            file.seek(position)
            found = file.read(step) + found
    return found.decode(errors="replace")
