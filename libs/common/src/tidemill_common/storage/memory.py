"""A store in memory: the twin of the S3 adapter, for tests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tidemill_common.errors import ConflictError, InvalidInputError, NotFoundError
from tidemill_common.storage import ObjectInfo, Progress
from tidemill_common.storage.files import appearing, reading
from tidemill_common.storage.paths import split_path


@dataclass
class _Bucket:
    objects: dict[str, tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def _now() -> datetime:
    return datetime.now(UTC)


class MemoryObjectStore:
    """Objects and buckets in memory; both ports in one.

    Args:
        buckets: Buckets that are there from the start.
        now: The clock for `modified`.
    """

    def __init__(self, *buckets: str, now: Callable[[], datetime] = _now) -> None:
        self._buckets = {name: _Bucket() for name in buckets}
        self._now = now
        self.failure: Exception | None = None
        """When set, every call raises it: the store is away."""

    async def head(self, path: str) -> ObjectInfo | None:
        """The object's facts; None: it is not there."""
        self._reach()
        bucket, key = split_path(path)
        found = self._buckets[bucket].objects.get(key) if bucket in self._buckets else None
        return found[1] if found else None

    async def get(self, path: str) -> bytes:
        """The object's content."""
        return self._object(path)[0]

    async def put(
        self, path: str, body: bytes, *, metadata: Mapping[str, str] | None = None, content_type: str | None = None
    ) -> ObjectInfo:
        """Write an object."""
        bucket, key = split_path(path)
        info = ObjectInfo(
            path=path,
            size_bytes=len(body),
            modified=self._now(),
            etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
            metadata={name.lower(): value for name, value in (metadata or {}).items()},
        )
        self._bucket(bucket).objects[key] = (bytes(body), info)
        return info

    async def download(
        self, path: str, target: Path, *, etag: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """Copy an object into a file."""
        async with appearing(target) as file:
            body, info = self._object(path)
            if etag is not None and etag != info.etag:
                raise ConflictError(f"get {path}: it has another etag")
            await file.write(body, 0)
            if progress:
                progress(len(body))
            return info

    async def upload(
        self,
        source: Path,
        path: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Copy a file into an object."""
        async with reading(source) as file:
            body = await file.read(0, file.size_bytes)
        info = await self.put(path, body, metadata=metadata, content_type=content_type)
        if progress:
            progress(len(body))
        return info

    async def list(self, prefix: str, *, after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects whose path begins with `prefix`, in the order of their paths."""
        bucket = prefix.partition("/")[0]
        paths = sorted(f"{bucket}/{key}" for key in self._bucket(bucket).objects)
        for path in paths:
            if path.startswith(prefix) and (after is None or path > after) and (info := await self.head(path)):
                yield replace(info, metadata={})
                await asyncio.sleep(0)

    async def delete(self, path: str) -> None:
        """Remove an object, if it is there."""
        self._reach()
        bucket, key = split_path(path)
        if bucket in self._buckets:
            self._buckets[bucket].objects.pop(key, None)

    async def create_bucket(self, name: str) -> bool:
        """Make sure that it exists; False: it was there already."""
        self._reach()
        if not 3 <= len(name) <= 63 or not name.replace("-", "").replace(".", "").isalnum() or name != name.lower():
            raise InvalidInputError(f"create bucket {name}: InvalidBucketName")
        if name in self._buckets:
            return False
        self._buckets[name] = _Bucket()
        return True

    async def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all its objects, if it is there."""
        self._reach()
        self._buckets.pop(name, None)

    async def buckets(self) -> list[str]:  # type: ignore[valid-type]  # `list` is the port's method here
        """Names of all buckets, sorted."""
        self._reach()
        return sorted(self._buckets)

    async def tags(self, name: str) -> dict[str, str]:
        """The bucket's tags."""
        return dict(self._bucket(name).tags)

    async def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the bucket's tags."""
        self._bucket(name).tags = dict(tags)

    async def presign(
        self,
        path: str,
        operation: Literal["upload", "download"],
        *,
        expires: timedelta,
        content_type: str | None = None,
    ) -> str:
        """A URL that names what it allows; nobody answers it."""
        split_path(path)
        if not timedelta(seconds=1) <= expires <= timedelta(days=7):
            raise InvalidInputError("a signed URL holds for 1 second to 7 days")
        return f"memory://{quote(path)}?operation={operation}&expires={int(expires.total_seconds())}"

    def _reach(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _bucket(self, name: str) -> _Bucket:
        self._reach()
        try:
            return self._buckets[name]
        except KeyError as error:
            raise NotFoundError(f"{name}: NoSuchBucket") from error

    def _object(self, path: str) -> tuple[bytes, ObjectInfo]:
        bucket, key = split_path(path)
        try:
            return self._bucket(bucket).objects[key]
        except KeyError as error:
            raise NotFoundError(f"get {path}: NoSuchKey") from error
