"""Local files as ends of a transfer: written at offsets and shown only when whole, read at offsets.

Blocking calls run in threads; one that has begun is waited for even when the task is cancelled, so a file number is
never closed, and given away, under a thread that still uses it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from tidemill_common.errors import ConflictError

T = TypeVar("T")

_SMALL_BYTES: Final = 256 * 1024
"""Moved to and from the page cache faster than a thread is woken."""


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread; a cancelled caller leaves only after it has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


class ScratchFile:
    """A file in the making."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        if len(data) <= _SMALL_BYTES:
            _write_all(self._descriptor, data, offset)
            return
        await in_thread(lambda: _write_all(self._descriptor, data, offset))


@asynccontextmanager
async def appearing(target: Path) -> AsyncIterator[ScratchFile]:
    """A scratch file beside `target` that takes its name at the end, or is gone after an error."""
    scratch = target.with_name(f".{uuid4().hex}.part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            yield ScratchFile(descriptor)
        finally:
            os.close(descriptor)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class SourceFile:
    """A file that is being read."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes.

        Raises:
            ConflictError: The file became shorter meanwhile.
        """
        if length <= _SMALL_BYTES:
            data = _read_all(self._descriptor, length, offset)
        else:
            data = await in_thread(lambda: _read_all(self._descriptor, length, offset))
        if len(data) != length:
            raise ConflictError(f"{self._path} became shorter while it was read")
        return data


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[SourceFile]:
    """An open file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield SourceFile(path, descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _read_all(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
        data += more
    return data
