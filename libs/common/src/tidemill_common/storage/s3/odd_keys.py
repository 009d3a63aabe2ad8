"""Keys that obstore cannot say, such as folder markers (`in/`), `a//b` or `a\\b`, through aiobotocore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tidemill_common.errors import NotFoundError, UnavailableError
from tidemill_common.storage import ObjectInfo, Progress
from tidemill_common.storage.files import ScratchFile
from tidemill_common.storage.paths import bare_etag

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_CHUNK_BYTES: Final = 2 * 1024 * 1024


def is_odd(key: str) -> bool:
    """Whether the key has empty or dot segments, control characters or backslashes."""
    return bool(_CONTROL.search(key)) or not {"", ".", ".."}.isdisjoint(key.split("/"))


async def head(client: Any, bucket: str, key: str) -> ObjectInfo:
    """The object's facts."""
    with _errors("head", bucket, key):
        return _info(bucket, key, await client.head_object(Bucket=bucket, Key=key))


async def get(client: Any, bucket: str, key: str) -> bytes:
    """The object's content."""
    with _errors("get", bucket, key):
        answer = await client.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            content: bytes = await body.read()
            return content


async def put(client: Any, bucket: str, key: str, body: bytes, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Write the object."""
    with _errors("put", bucket, key):
        answer: dict[str, Any] = await client.put_object(Bucket=bucket, Key=key, Body=body, **extra)
        return answer


async def download(
    client: Any, bucket: str, key: str, file: ScratchFile, etag: str | None, progress: Progress
) -> ObjectInfo:
    """Copy the object into a file, in one stream."""
    condition = {"IfMatch": f'"{etag}"'} if etag else {}
    with _errors("get", bucket, key):
        answer = await client.get_object(Bucket=bucket, Key=key, **condition)
    info = _info(bucket, key, answer)
    offset = 0
    async with answer["Body"] as body:
        while True:
            with _errors("get", bucket, key):
                chunk = await body.read(_CHUNK_BYTES)
            if not chunk:
                break
            await file.write(chunk, offset)
            offset += len(chunk)
            progress(len(chunk))
    if offset != info.size_bytes:
        raise UnavailableError(f"get {bucket}/{key}: the body ended {info.size_bytes - offset} bytes early")
    return info


async def delete(client: Any, bucket: str, key: str) -> None:
    """Remove the object, if it is there."""
    try:
        with _errors("delete", bucket, key):
            await client.delete_object(Bucket=bucket, Key=key)
    except NotFoundError:
        pass


def _errors(action: str, bucket: str, key: str) -> Any:
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    return botocore_errors(f"{action} {bucket}/{key}")


def _info(bucket: str, key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        path=f"{bucket}/{key}",
        size_bytes=answer["ContentLength"],
        modified=answer["LastModified"],
        etag=bare_etag(answer.get("ETag")),
        version=answer.get("VersionId"),
        metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
    )
