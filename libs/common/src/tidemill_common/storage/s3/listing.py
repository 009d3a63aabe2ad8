"""Listings of S3 buckets, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tidemill_common.errors import InvalidInputError
from tidemill_common.storage import ObjectInfo
from tidemill_common.storage.paths import bare_etag


async def list_objects(client: Any, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
    """Objects whose path begins with `prefix` (`bucket/…`) and is greater than `after`."""
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    bucket, _, key_prefix = prefix.partition("/")
    if not bucket:
        raise InvalidInputError(f"{prefix!r} names no bucket")
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": key_prefix}
    if after is not None and after >= f"{bucket}/":
        if not after.startswith(f"{bucket}/"):
            return
        request["StartAfter"] = after.removeprefix(f"{bucket}/")
    while True:
        with botocore_errors(f"list {prefix}"):
            page = await client.list_objects_v2(**request)
        for entry in page.get("Contents", []):
            yield _info(bucket, entry)
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _info(bucket: str, entry: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        path=f"{bucket}/{entry['Key']}",
        size_bytes=entry["Size"],
        modified=entry["LastModified"],
        etag=bare_etag(entry.get("ETag")),
    )
