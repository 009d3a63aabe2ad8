"""Large objects in parallel pieces, with bounded memory: ranges into a scratch file, parts of a multipart upload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import obstore
from obstore.store import S3Store

from tidemill_common.concurrently import each
from tidemill_common.errors import NotFoundError, TidemillError, UnavailableError
from tidemill_common.storage import Progress
from tidemill_common.storage.files import ScratchFile, SourceFile
from tidemill_common.storage.s3.errors import obstore_errors

MIB: Final = 1024 * 1024
RANGE_BYTES: Final = 16 * MIB
PART_BYTES: Final = 8 * MIB
CONCURRENCY: Final = 4
"""Pieces of one object at a time. Parts are in memory whole (32 MiB in all), ranges in chunks."""
CHUNK_BYTES: Final = 2 * MIB
MAX_PARTS: Final = 10_000
ABORT_TIMEOUT: Final = timedelta(seconds=15)


async def copy_body(body: obstore.GetResult, file: ScratchFile, progress: Progress, what: str) -> None:
    """Write an answer's body at its place in the file.

    Raises:
        UnavailableError: It ended early.
    """
    offset, end = body.range
    if end - offset <= CHUNK_BYTES:
        with obstore_errors(what):
            whole = await body.bytes_async()
        await file.write(memoryview(whole), offset)
        progress(len(whole))
        if len(whole) != end - offset:
            raise UnavailableError(f"{what}: the body ended early")
        return
    stream = aiter(body.stream(min_chunk_size=CHUNK_BYTES))
    while True:
        with obstore_errors(what):
            chunk = await anext(stream, b"")
        if not chunk:
            break
        await file.write(chunk, offset)
        offset += len(chunk)
        progress(len(chunk))
    if offset != end:
        raise UnavailableError(f"{what}: the body ended {end - offset} bytes early")


async def copy_ranges(
    store: S3Store, key: str, file: ScratchFile, *, start: int, size: int, etag: str | None, progress: Progress
) -> None:
    """Fetch the rest of an object in parallel, all of the same content.

    Raises:
        ConflictError: The object changed.
    """
    what = f"get {key}"

    async def fetch(offset: int) -> None:
        options: obstore.GetOptions = {"range": (offset, min(size, offset + RANGE_BYTES))}
        if etag:
            options["if_match"] = etag
        with obstore_errors(what):
            body = await obstore.get_async(store, key, options=options)
        await copy_body(body, file, progress, what)

    await each(range(start, size, RANGE_BYTES), fetch, concurrency=CONCURRENCY)


def part_size(size_bytes: int) -> int:
    """Bytes of one part: whole MiB, few enough parts for the protocol."""
    least = -(-size_bytes // MAX_PARTS)
    return max(PART_BYTES, -(-least // MIB) * MIB)


async def upload_parts(
    client: Any, target: Mapping[str, str], source: SourceFile, extra: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Upload a file in parallel parts; after an error or a cancel the store keeps none of them.

    Args:
        target: `Bucket` and `Key`.
        extra: Further arguments for the new object.
    """
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    what = f"put {target['Bucket']}/{target['Key']}"
    with botocore_errors(what):
        upload = {**target, "UploadId": (await client.create_multipart_upload(**target, **extra))["UploadId"]}
    size = part_size(source.size_bytes)
    etags: dict[int, str] = {}

    async def send(number: int) -> None:
        offset = (number - 1) * size
        body = await source.read(offset, min(size, source.size_bytes - offset))
        with botocore_errors(what):
            answer = await client.upload_part(**upload, PartNumber=number, Body=body)
        etags[number] = answer["ETag"]
        progress(len(body))

    try:
        await each(range(1, -(-source.size_bytes // size) + 1), send, concurrency=CONCURRENCY)
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        return await _complete(client, upload, parts, source.size_bytes, what)
    except BaseException:
        await asyncio.shield(_abort(client, upload))
        raise


async def _complete(
    client: Any, upload: Mapping[str, str], parts: list[dict[str, Any]], size_bytes: int, what: str
) -> dict[str, Any]:
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    try:
        with botocore_errors(what):
            answer: dict[str, Any] = await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            return answer
    except NotFoundError:
        # A repeated complete finds no upload when the first one went through unheard: the object tells.
        target = {name: upload[name] for name in ("Bucket", "Key")}
        with botocore_errors(what):
            found: dict[str, Any] = await client.head_object(**target)
        if found["ContentLength"] != size_bytes or not found["ETag"].strip('"').endswith(f"-{len(parts)}"):
            raise
        return found


async def _abort(client: Any, upload: Mapping[str, str]) -> None:
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    try:
        async with asyncio.timeout(ABORT_TIMEOUT.total_seconds()):
            with botocore_errors("abort"):
                await client.abort_multipart_upload(**upload)
    except (TidemillError, TimeoutError):
        pass  # the store is away, or the upload is gone; the first error is the one to tell
