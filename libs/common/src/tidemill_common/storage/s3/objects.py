"""Objects of an S3 store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.store import S3Store

from tidemill_common.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import ObjectInfo, Progress
from tidemill_common.storage.files import appearing, reading
from tidemill_common.storage.paths import bare_etag, split_path
from tidemill_common.storage.s3 import odd_keys
from tidemill_common.storage.s3.clients import LazyClient, bucket_client
from tidemill_common.storage.s3.errors import obstore_errors
from tidemill_common.storage.s3.listing import list_objects
from tidemill_common.storage.s3.transfers import PART_BYTES, RANGE_BYTES, copy_body, copy_ranges, upload_parts

_KNOWN_ATTRIBUTES: Final = frozenset(
    ("Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Cache-Control", "Storage-Class")
)


def _ignore(_: int) -> None:
    pass


class S3ObjectStore:
    """Objects of one S3 store; see `ObjectStore`. `modified` of what was just written is this machine's time."""

    def __init__(self, credentials: S3Credentials, client: LazyClient) -> None:
        self._credentials = credentials
        self._client = client
        self._stores: dict[str, S3Store] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, credentials: S3Credentials) -> AsyncIterator[S3ObjectStore]:
        """A store and its connections, closed at the end; nothing is sent yet."""
        async with AsyncExitStack() as stack:
            yield cls(credentials, LazyClient(credentials, stack))

    async def head(self, path: str) -> ObjectInfo | None:
        """The object's facts with its user metadata; None: it is not there."""
        bucket, key = split_path(path)
        try:
            if odd_keys.is_odd(key):
                return await odd_keys.head(await self._client.get(), bucket, key)
            with obstore_errors(f"head {path}"):
                return _info(path, await obstore.get_async(self._store(bucket), key, options={"head": True}))
        except NotFoundError:
            return None

    async def get(self, path: str) -> bytes:
        """A small object's content."""
        bucket, key = split_path(path)
        if odd_keys.is_odd(key):
            return await odd_keys.get(await self._client.get(), bucket, key)
        with obstore_errors(f"get {path}"):
            answer = await obstore.get_async(self._store(bucket), key)
            return bytes(await answer.bytes_async())

    async def put(
        self, path: str, body: bytes, *, metadata: Mapping[str, str] | None = None, content_type: str | None = None
    ) -> ObjectInfo:
        """Write a small object, replacing what is there."""
        bucket, key = split_path(path)
        if odd_keys.is_odd(key):
            extra = _extra(metadata, content_type)
            answer = await odd_keys.put(await self._client.get(), bucket, key, body, extra)
            return _written(path, len(body), answer.get("ETag"), answer.get("VersionId"), metadata)
        attributes: dict[str, str] = dict(metadata or {})
        if content_type:
            attributes["Content-Type"] = content_type
        with obstore_errors(f"put {path}"):
            result = await obstore.put_async(self._store(bucket), key, body, attributes=attributes, use_multipart=False)
        return _written(path, len(body), result["e_tag"], result["version"], metadata)

    async def download(
        self, path: str, target: Path, *, etag: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """Copy an object into a file, large ones in parallel ranges; the file appears only when it is whole."""
        bucket, key = split_path(path)
        report = progress or _ignore
        async with appearing(target) as file:
            if odd_keys.is_odd(key):
                return await odd_keys.download(await self._client.get(), bucket, key, file, etag, report)
            first = await self._first_range(bucket, key, etag)
            info = _info(path, first)
            await copy_body(first, file, report, f"get {path}")
            try:
                await copy_ranges(
                    self._store(bucket),
                    key,
                    file,
                    start=first.range[1],
                    size=info.size_bytes,
                    etag=first.meta["e_tag"],
                    progress=report,
                )
            except ConflictError as error:
                if etag is None:  # any content will do, so the next try may have it whole
                    raise UnavailableError(f"get {path}: it changed while it was read") from error
                raise
            return info

    async def _first_range(self, bucket: str, key: str, etag: str | None) -> obstore.GetResult:
        options: obstore.GetOptions = {"if_match": f'"{etag}"'} if etag else {}
        try:
            with obstore_errors(f"get {bucket}/{key}"):
                return await obstore.get_async(self._store(bucket), key, options={**options, "range": (0, RANGE_BYTES)})
        except InvalidInputError:  # 416: an empty object has no first byte
            with obstore_errors(f"get {bucket}/{key}"):
                return await obstore.get_async(self._store(bucket), key, options=options)

    async def upload(
        self,
        source: Path,
        path: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Copy a file into an object, large ones in parallel parts; a failed one leaves no parts behind."""
        bucket, key = split_path(path)
        report = progress or _ignore
        async with reading(source) as file:
            size = file.size_bytes
            if size <= PART_BYTES:
                info = await self.put(path, await file.read(0, size), metadata=metadata, content_type=content_type)
                report(size)
                return info
            target = {"Bucket": bucket, "Key": key}
            extra = _extra(metadata, content_type)
            answer = await upload_parts(await self._client.get(), target, file, extra, report)
            return _written(path, size, answer["ETag"], answer.get("VersionId"), metadata)

    async def list(self, prefix: str, *, after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects whose path begins with `prefix`, page by page, in the store's order."""
        async for info in list_objects(await self._client.get(), prefix, after):
            yield info

    async def delete(self, path: str) -> None:
        """Remove an object; one that is not there is success."""
        bucket, key = split_path(path)
        await odd_keys.delete(await self._client.get(), bucket, key)

    def _store(self, bucket: str) -> S3Store:
        store = self._stores.get(bucket)
        if store is None:
            store = self._stores[bucket] = bucket_client(self._credentials, bucket)
        return store


def _info(path: str, answer: obstore.GetResult) -> ObjectInfo:
    meta = answer.meta
    return ObjectInfo(
        path=path,
        size_bytes=meta["size"],
        modified=meta["last_modified"],
        etag=bare_etag(meta["e_tag"]),
        version=meta["version"],
        metadata={name.lower(): value for name, value in answer.attributes.items() if name not in _KNOWN_ATTRIBUTES},
    )


def _written(
    path: str, size_bytes: int, etag: str | None, version: str | None, metadata: Mapping[str, str] | None
) -> ObjectInfo:
    return ObjectInfo(
        path=path,
        size_bytes=size_bytes,
        modified=datetime.now(UTC),
        etag=bare_etag(etag),
        version=version,
        metadata={name.lower(): value for name, value in (metadata or {}).items()},
    )


def _extra(metadata: Mapping[str, str] | None, content_type: str | None) -> dict[str, Any]:
    extra: dict[str, Any] = {"Metadata": dict(metadata or {})}
    return extra | {"ContentType": content_type} if content_type else extra
