"""Output of Workers as files, bounded in size and number.

Workers write to the file themselves (appending), so their output survives the scheduler's end.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 8 * 1024**2
"""A larger file loses its older part when it is looked at."""
MAX_FILES: Final = 200
_TAIL_BYTES: Final = 4096
_LINE_CHARACTERS: Final = 300


class WorkerLogs:
    """A directory of `<worker id>.log`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, worker: str) -> int:
        """A descriptor for a Worker's stdout and stderr; the caller closes it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._path(worker), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def last_line(self, worker: str) -> str:
        """The last line that is not empty; empty when there is none."""
        with contextlib.suppress(OSError), self._path(worker).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
            return next((line.strip()[:_LINE_CHARACTERS] for line in reversed(lines) if line.strip()), "")
        return ""

    def tidy(self) -> None:
        """Shorten files that are too large, and drop the oldest ones above the number that is kept."""
        found = []
        for path in self._directory.glob("*.log"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, path))
                if status.st_size > MAX_BYTES:
                    _shorten(path)
        for _, path in sorted(found)[: max(0, len(found) - MAX_FILES)]:
            path.unlink(missing_ok=True)

    def _path(self, worker: str) -> Path:
        return self._directory / f"{worker}.log"


def _shorten(path: Path) -> None:
    """Keep the newest quarter. The Worker appends, so its next line goes to the new end."""
    with path.open("r+b") as file:
        file.seek(-MAX_BYTES // 4, os.SEEK_END)
        kept = file.read()
        file.truncate(0)
        file.seek(0)
        file.write(kept)
