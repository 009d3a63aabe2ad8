"""A folder as a provider: every file below it is an object, its path relative to the folder.

The etag is made of size and time of change. User metadata is kept in `.tidemill` of the same folder, with the etag it
belongs to, so a file that somebody replaced by hand has none. What would lead out of the folder is refused, links are
not followed, and objects appear whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from tidemill_common.contracts.contract import derive_id
from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TidemillError,
    UnavailableError,
)
from tidemill_common.storage import ObjectInfo, Progress
from tidemill_common.storage.files import SourceFile, appearing, in_thread, reading

_CHUNK_BYTES: Final = 4 * 1024 * 1024
_PAGE: Final = 500
_OURS: Final = ".tidemill"
OS_ERRORS: Final[dict[type[OSError], type[TidemillError]]] = {
    FileNotFoundError: NotFoundError,
    PermissionError: AccessDeniedError,
    NotADirectoryError: ConflictError,
    IsADirectoryError: ConflictError,
    FileExistsError: ConflictError,
}
_BY_NUMBER: Final[dict[int, type[TidemillError]]] = {
    errno.ENAMETOOLONG: InvalidInputError,
    errno.EINVAL: InvalidInputError,
    errno.ELOOP: AccessDeniedError,
    errno.EROFS: AccessDeniedError,
    errno.ENOTEMPTY: ConflictError,
}


class LocalObjectStore:
    """Objects in a folder; see `ObjectStore`. Folders of new objects are made, so there is always a bucket to write to.

    Args:
        root: The folder; it must be there, else the provider is away.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def head(self, path: str) -> ObjectInfo | None:
        """The object's facts with its user metadata; None: it is not there."""
        try:
            with self._errors(f"head {path}"):
                return await in_thread(lambda: self._facts(path))
        except NotFoundError:
            return None

    async def get(self, path: str) -> bytes:
        """A small object's content."""
        with self._errors(f"get {path}"):
            return await in_thread(lambda: self._locate(path).read_bytes())

    async def put(
        self, path: str, body: bytes, *, metadata: Mapping[str, str] | None = None, content_type: str | None = None
    ) -> ObjectInfo:
        """Write a small object, replacing what is there. A path that ends in `/` makes a folder."""
        with self._errors(f"put {path}"):
            if path.endswith("/") and not body:
                return await in_thread(lambda: self._make_folder(path))
            scratch = self._scratch(path)
            async with appearing(scratch) as file:
                await file.write(body, 0)
            return await in_thread(lambda: self._place(scratch, path, metadata or {}))

    async def download(
        self, path: str, target: Path, *, etag: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """Copy an object into a file, which appears only when it is whole."""
        async with appearing(target) as file:
            with self._errors(f"get {path}"):
                before = await in_thread(lambda: self._facts(path))
                if etag is not None and etag != before.etag:
                    raise ConflictError(f"get {path}: it has another etag")
                async with reading(self._locate(path)) as source:
                    async for offset, chunk in _chunks(source):
                        await file.write(chunk, offset)
                        if progress:
                            progress(len(chunk))
                after = await in_thread(lambda: self._facts(path))
            if after.etag != before.etag:
                raise UnavailableError(f"get {path}: it changed while it was read")
            return before

    async def upload(
        self,
        source: Path,
        path: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Copy a file into an object, which appears only when it is whole."""
        async with reading(source) as opened:
            with self._errors(f"put {path}"):
                scratch = self._scratch(path)
                async with appearing(scratch) as file:
                    async for offset, chunk in _chunks(opened):
                        await file.write(chunk, offset)
                        if progress:
                            progress(len(chunk))
                return await in_thread(lambda: self._place(scratch, path, metadata or {}))

    async def list(self, prefix: str, *, after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects whose path begins with `prefix`, in the order of their paths."""
        folder = prefix.rpartition("/")[0] or prefix.partition("/")[0]
        with self._errors(f"list {prefix}"):
            top = await in_thread(lambda: self._locate(prefix.partition("/")[0] + "/"))
            if not top.is_dir():
                raise NotFoundError(f"list {prefix}: no such folder")
            found = self._walk(folder, prefix, after) if self._locate(folder).is_dir() else iter(())
        while True:
            with self._errors(f"list {prefix}"):
                page = await in_thread(lambda: [*islice(found, _PAGE)])
            for info in page:
                yield info
            if not page:
                return

    async def delete(self, path: str) -> None:
        """Remove an object; one that is not there is success."""
        with self._errors(f"delete {path}"):
            await in_thread(lambda: self._remove(path))

    def _locate(self, path: str) -> Path:
        """Where a path is; refused when it leads out of the folder, or into what is ours."""
        parts = path.removesuffix("/").split("/")
        if "\0" in path or not {"", ".", ".."}.isdisjoint(parts) or parts[0] == _OURS:
            raise InvalidInputError(f"{path!r} is no path of an object")
        found = self._root.joinpath(*parts)
        if found.resolve() != self._root.resolve().joinpath(*parts):
            raise AccessDeniedError(f"{path!r} goes through a link")
        return found

    def _facts(self, path: str) -> ObjectInfo:
        status = self._locate(path).stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) != path.endswith("/"):
            raise NotFoundError(f"{path} is no object")
        info = _info(path, status)
        return replace(info, metadata=self._metadata(info))

    def _metadata(self, info: ObjectInfo) -> dict[str, str]:
        try:
            note = json.loads(self._note(info.path).read_bytes())
        except (OSError, ValueError):
            return {}
        return note["metadata"] if note.get("etag") == info.etag else {}

    def _note(self, path: str) -> Path:
        return self._root / _OURS / f"{derive_id(path)}.json"

    def _scratch(self, path: str) -> Path:
        self._locate(path)
        if not self._root.is_dir():
            raise UnavailableError(f"{self._root} is not there")
        (self._root / _OURS).mkdir(exist_ok=True)
        return self._root / _OURS / f"{derive_id(path, os.urandom(8).hex())}.new"

    def _make_folder(self, path: str) -> ObjectInfo:
        self._scratch(path)
        self._locate(path).mkdir(parents=True, exist_ok=True)
        return self._facts(path)

    def _place(self, scratch: Path, path: str, metadata: Mapping[str, str]) -> ObjectInfo:
        target = self._locate(path)
        lowered = {name.lower(): value for name, value in metadata.items()}
        try:
            etag = _info(path, scratch.stat()).etag
            self._note(path).unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
        if lowered:
            self._note(path).write_text(json.dumps({"etag": etag, "metadata": lowered}))
        return self._facts(path)

    def _remove(self, path: str) -> None:
        try:
            located = self._locate(path)
            located.rmdir() if path.endswith("/") else located.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        self._note(path).unlink(missing_ok=True)

    def _walk(self, folder: str, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        """Files below a folder in the order of their paths: a folder sorts by its name with `/` behind it."""
        entries = {
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name: entry
            for entry in _scan(self._root / folder)
        }
        for name in sorted(entries):
            path = f"{folder}/{name}"
            if name.endswith("/"):
                if (path.startswith(prefix) or prefix.startswith(path)) and not _is_past(path, after):
                    yield from self._walk(path.removesuffix("/"), prefix, after)
            elif path.startswith(prefix) and (after is None or path > after):
                yield from _if_there(path, entries[name])

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._root.is_dir():
                raise UnavailableError(f"{what}: {self._root} is not there") from error
            raise from_os(error, what) from error


def from_os(error: OSError, what: str) -> TidemillError:
    """Our error for one of the system's; what is not known may pass: a full disk, a file server that is away."""
    kind = next((ours for cls, ours in OS_ERRORS.items() if isinstance(error, cls)), None)
    kind = kind or _BY_NUMBER.get(error.errno or 0, UnavailableError)
    return kind(f"{what}: {error.strerror or error}")


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        path=path,
        size_bytes=0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}",
    )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name != _OURS and _is_text(entry.name)]
    except FileNotFoundError:
        return []


def _is_past(folder: str, after: str | None) -> bool:
    """Whether `after` is greater than every path in a folder (given with its `/`)."""
    return after is not None and after > folder and not after.startswith(folder)


def _if_there(path: str, entry: os.DirEntry[str]) -> Iterator[ObjectInfo]:
    try:
        if entry.is_file(follow_symlinks=False):
            yield _info(path, entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return


async def _chunks(source: SourceFile) -> AsyncIterator[tuple[int, bytes]]:
    for offset in range(0, source.size_bytes, _CHUNK_BYTES):
        yield offset, await source.read(offset, min(_CHUNK_BYTES, source.size_bytes - offset))


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
