"""Paths of the storage port: `bucket/key`."""

from __future__ import annotations

from tidemill_common.errors import InvalidInputError


def split_path(path: str) -> tuple[str, str]:
    """Bucket and key of an object's path.

    Raises:
        InvalidInputError: One of them is missing.
    """
    bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise InvalidInputError(f"{path!r} is not bucket/key")
    return bucket, key


def bare_etag(etag: str | None) -> str | None:
    """An etag without quotes and weakness mark."""
    return etag.removeprefix("W/").strip('"') or None if etag else None
