"""The storage port: objects by path, in our own types and errors; one adapter per technology.

A path is `bucket/key` for S3 kinds and relative to the provider's root for others, decoded, without a leading slash.
Every adapter passes `tests/contract/storage`. `tidemill_common.storage.opening.open_store` picks one by kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["BucketStore", "ObjectInfo", "ObjectStore", "Progress"]

Progress = Callable[[int], None]
"""Called with the number of bytes moved since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store tells of an object."""

    path: str
    size_bytes: int
    modified: datetime
    etag: str | None = None
    """Without quotes."""
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, keys in lower case; empty in listings."""


class ObjectStore(Protocol):
    """Reads and writes objects of one provider.

    All methods raise UnavailableError or ThrottledError when trying again may help, AccessDeniedError when the
    provider refuses our credentials, NotFoundError where said, and never a library's own error.
    """

    async def head(self, path: str) -> ObjectInfo | None:
        """The object's facts with its user metadata; None: it is not there."""
        ...

    async def get(self, path: str) -> bytes:
        """A small object's content.

        Raises:
            NotFoundError: No such object or bucket.
        """
        ...

    async def put(
        self, path: str, body: bytes, *, metadata: Mapping[str, str] | None = None, content_type: str | None = None
    ) -> ObjectInfo:
        """Write a small object, replacing what is there."""
        ...

    async def download(
        self, path: str, target: Path, *, etag: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """Copy an object into a file, large ones in parallel ranges; the file appears only when it is whole.

        Args:
            etag: Fetch exactly this content.

        Raises:
            NotFoundError: No such object or bucket.
            ConflictError: The object has another etag now.
        """
        ...

    async def upload(
        self,
        source: Path,
        path: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Copy a file into an object, large ones in parallel parts; a failed one leaves no parts behind.

        Raises:
            NotFoundError: No such bucket.
        """
        ...

    def list(self, prefix: str, *, after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects whose path begins with `prefix` (`bucket/…`), page by page, in the store's order.

        The order stays the same: that of the paths' bytes, but SeaweedFS lists folder by folder (`a/1` before `a-b`).

        Args:
            after: Only what comes behind this path in that order: a path that was listed, to go on from there.

        Raises:
            NotFoundError: No such bucket.
        """
        ...

    async def delete(self, path: str) -> None:
        """Remove an object; one that is not there is success."""
        ...


class BucketStore(Protocol):
    """Manages the buckets of an S3 store."""

    async def create_bucket(self, name: str) -> bool:
        """Make sure that it exists; False: it was there already.

        Raises:
            ConflictError: It belongs to another account of the store.
            InvalidInputError: The store refuses the name.
        """
        ...

    async def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all its objects; one that is not there is success."""
        ...

    async def buckets(self) -> list[str]:
        """Names of all buckets that these credentials see, sorted."""
        ...

    async def tags(self, name: str) -> dict[str, str]:
        """The bucket's tags.

        Raises:
            NotFoundError: No such bucket.
        """
        ...

    async def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the bucket's tags."""
        ...

    async def presign(
        self,
        path: str,
        operation: Literal["upload", "download"],
        *,
        expires: timedelta,
        content_type: str | None = None,
    ) -> str:
        """A URL that lets its bearer do one thing with one object."""
        ...
