"""Log files of the children: shown on the terminal as they grow, and kept from growing for ever."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024
"""A log file larger than this becomes `<name>.1`, which replaces the `<name>.1` there was."""


class Follower:
    """Reads one file as it grows."""

    def __init__(self, path: Path, show: Callable[[str], None] | None) -> None:
        self._path = path
        self._show = show
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def step(self, *, max_bytes: int = MAX_BYTES) -> None:
        """Show the lines that came since the last step; set the file aside when it has grown too large."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size < self._offset:
            self._offset = 0
        if self._show is not None and size > self._offset:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                self._feed(file.read(1024 * 1024), self._show)
                self._offset = file.tell()
        if size > max_bytes:
            self._set_aside()

    def _feed(self, chunk: bytes, show: Callable[[str], None]) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            show(line.decode("utf-8", "replace").rstrip("\r"))

    def _set_aside(self) -> None:
        # Copied, then cut: the child has the file open (for appending) and would go on writing into a renamed one.
        shutil.copyfile(self._path, self._path.with_suffix(self._path.suffix + ".1"))
        os.truncate(self._path, 0)
        self._offset, self._rest = 0, b""


async def follow_all(followers: Sequence[Follower]) -> None:
    """Step through all of them for ever; the last lines are shown when it is cancelled."""
    try:
        while True:
            for follower in followers:
                follower.step()
            await asyncio.sleep(0.1)
    finally:
        for follower in followers:
            follower.step()
