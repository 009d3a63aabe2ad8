"""Workspaces of Invocations that a resident script handles: used again when they were left empty.

Making and removing four directories takes longer than a short handler; looking whether they are empty does not. And
most need no look: one whose time of change is as it was has had nothing made in it. (User code cannot set that time.)
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Final

from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.ports import Scripts

_DIRECTORIES: Final = frozenset({"input", "output", "tmp"})
_QUICK_BYTES: Final = 1024**2
"""Removing a larger file may take a while."""
_SETTLED_NANOSECONDS: Final = 100_000_000
"""A change that is older than this has another time than all that follow; file systems count in ticks."""
_OPEN: Final = 0o777
"""User code may run as any user; the Worker's directory around it is not open to others."""


class Workspaces:
    """Those of one Worker that can be used again."""

    def __init__(self, scripts: Scripts, directory: Path) -> None:
        self._scripts = scripts
        self._directory = directory
        self._numbers = itertools.count()
        self._free: list[Path] = []
        self._unchanged: dict[str, tuple[int, ...]] = {}
        """Times of the last changes of workspaces that were found empty after them."""

    def take(self) -> Path:
        """An empty workspace, or the name of one that `make` makes."""
        return self._free.pop() if self._free else self._directory / f"workspace-{next(self._numbers)}"

    async def give(self, place: Place) -> None:
        """It is not needed any more."""
        root = str(place.root)
        now, changed_at = time.time_ns(), _changed_at(root)
        if changed_at is None or self._unchanged.get(root) != changed_at:
            try:
                is_empty = _is_emptied(root)
            except FileNotFoundError:  # it was never made
                return
            except OSError:
                is_empty = False
            if not is_empty:
                self._unchanged.pop(root, None)
                await self._scripts.wipe(place.root)
                return
            if changed_at is not None and max(changed_at) < now - _SETTLED_NANOSECONDS:
                self._unchanged[root] = changed_at
        self._free.append(place.root)


def _changed_at(root: str) -> tuple[int, ...] | None:
    """When entries of each of its directories were last made, removed or renamed; None: one is missing."""
    try:
        return tuple(os.lstat(path).st_ctime_ns for path in (root, f"{root}/input", f"{root}/output", f"{root}/tmp"))
    except OSError:
        return None


def make(place: Place) -> None:
    """Make the directories of a workspace, unless they are there."""
    if place.root.exists():
        return
    for directory in (place.root, place.input, place.output, place.tmp):
        directory.mkdir()
        directory.chmod(_OPEN)


def _is_emptied(root: str) -> bool:
    """Remove what is quickly removed; False: more is left than the empty directories."""
    found = set()
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name in _DIRECTORIES and entry.is_dir(follow_symlinks=False):
                found.add(entry.name)
                if not _is_swept(entry.path):
                    return False
            elif not _is_unlinked(entry):
                return False
    return found == _DIRECTORIES


def _is_swept(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return all(_is_unlinked(entry) for entry in entries)


def _is_unlinked(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_size > _QUICK_BYTES:
        return False
    os.unlink(entry.path)
    return True
