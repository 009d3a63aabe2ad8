"""Opens the store that a provider's name and fields describe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from pydantic import ValidationError

from tidemill_common.errors import InvalidInputError, UnsupportedError
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import BucketStore, ObjectStore


def open_store(name: str, fields: Mapping[str, object]) -> AbstractAsyncContextManager[ObjectStore]:
    """The objects of a provider; nothing is sent before they are used.

    Args:
        name: `<kind>[.<id>]`; the kinds are `minio`, `s3` and `local`.
        fields: Those of `storage_providers.<kind>.<id>`; for `local` the folder as `root`.

    Raises:
        InvalidInputError: A field is missing or wrong.
        UnsupportedError: There is no adapter for the kind.
    """
    kind = name.partition(".")[0].lower()
    if kind in ("minio", "s3"):
        return _s3(_credentials(name, fields))
    if kind == "local":
        return _local(name, fields)
    raise UnsupportedError(f"no adapter for the storage kind {kind!r} of provider {name}")


@asynccontextmanager
async def open_buckets(credentials: S3Credentials) -> AsyncIterator[BucketStore]:
    """The buckets of an S3 store; nothing is sent before they are used."""
    from tidemill_common.storage.s3.buckets import S3BucketStore

    async with S3BucketStore.open(credentials) as store:
        yield store


@asynccontextmanager
async def _s3(credentials: S3Credentials) -> AsyncIterator[ObjectStore]:
    from tidemill_common.storage.s3.objects import S3ObjectStore

    async with S3ObjectStore.open(credentials) as store:
        yield store


@asynccontextmanager
async def _local(name: str, fields: Mapping[str, object]) -> AsyncIterator[ObjectStore]:
    from tidemill_common.storage.local import LocalObjectStore

    root = fields.get("root")
    if not isinstance(root, str | Path) or not str(root):
        raise InvalidInputError(f"provider {name}: root is required")
    yield LocalObjectStore(Path(root))


def _credentials(name: str, fields: Mapping[str, object]) -> S3Credentials:
    given = {key: value for key, value in fields.items() if value not in (None, "")}
    try:
        credentials = S3Credentials.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidInputError(f"provider {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if name.lower().startswith("minio") and credentials.endpoint is None:
        raise InvalidInputError(f"provider {name}: endpoint is required")
    return credentials
