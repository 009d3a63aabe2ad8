"""Buckets of an S3 store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final, Literal

from tidemill_common.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError, UnsupportedError
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage.paths import split_path
from tidemill_common.storage.s3.clients import LazyClient

_MAX_EXPIRY: Final = timedelta(days=7)
_ROUNDS: Final = 5
"""How often a bucket that is filled while it is emptied is emptied again."""


class S3BucketStore:
    """Buckets of one S3 store; see `BucketStore`."""

    def __init__(self, credentials: S3Credentials, client: LazyClient) -> None:
        self._credentials = credentials
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, credentials: S3Credentials) -> AsyncIterator[S3BucketStore]:
        """A store and its connections, closed at the end; nothing is sent yet."""
        async with AsyncExitStack() as stack:
            yield cls(credentials, LazyClient(credentials, stack))

    async def create_bucket(self, name: str) -> bool:
        """Make sure that it exists; False: it was there already."""
        client = await self._client.get()
        request: dict[str, Any] = {"Bucket": name}
        if self._credentials.endpoint is None and self._credentials.region != "us-east-1":
            request["CreateBucketConfiguration"] = {"LocationConstraint": self._credentials.region}
        try:
            with _errors(f"create bucket {name}"):
                await client.create_bucket(**request)
        except ConflictError:
            if name in await self.buckets():
                return False
            raise
        return True

    async def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all its objects; one that is not there is success."""
        client = await self._client.get()
        try:
            for _ in range(_ROUNDS):
                await _abort_uploads(client, name)
                await _delete_objects(client, name)
                if await _delete_if_empty(client, name):
                    return
                await _delete_versions(client, name)
        except NotFoundError:
            return
        raise UnavailableError(f"delete bucket {name}: it is filled while it is emptied")

    async def buckets(self) -> list[str]:
        """Names of all buckets that these credentials see, sorted."""
        client = await self._client.get()
        with _errors("list buckets"):
            answer = await client.list_buckets()
        return sorted(bucket["Name"] for bucket in answer.get("Buckets", []))

    async def tags(self, name: str) -> dict[str, str]:
        """The bucket's tags."""
        client = await self._client.get()
        try:
            with _errors(f"read tags of {name}"):
                answer = await client.get_bucket_tagging(Bucket=name)
        except NotFoundError:
            with _errors(f"read tags of {name}"):  # no tags, or no bucket?
                await client.head_bucket(Bucket=name)
            return {}
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}

    async def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the bucket's tags."""
        client = await self._client.get()
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        with _errors(f"tag {name}"):
            if pairs:
                await client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": pairs})
            else:
                await client.delete_bucket_tagging(Bucket=name)

    async def presign(
        self,
        path: str,
        operation: Literal["upload", "download"],
        *,
        expires: timedelta,
        content_type: str | None = None,
    ) -> str:
        """A URL that lets its bearer do one thing with one object, for at most 7 days."""
        if not timedelta(seconds=1) <= expires <= _MAX_EXPIRY:
            raise InvalidInputError("a signed URL holds for 1 second to 7 days")
        bucket, key = split_path(path)
        request = {"Bucket": bucket, "Key": key}
        if content_type and operation == "upload":
            request["ContentType"] = content_type
        client = await self._client.get()
        method = "put_object" if operation == "upload" else "get_object"
        with _errors(f"sign {path}"):
            url: str = await client.generate_presigned_url(
                method, Params=request, ExpiresIn=int(expires.total_seconds())
            )
        return url


async def _delete_objects(client: Any, bucket: str) -> None:
    while True:
        with _errors(f"empty {bucket}"):
            page = await client.list_objects_v2(Bucket=bucket)
        await _delete_batch(client, bucket, [{"Key": entry["Key"]} for entry in page.get("Contents", [])])
        if not page.get("IsTruncated"):
            return


async def _delete_versions(client: Any, bucket: str) -> None:
    try:
        with _errors(f"empty {bucket}"):
            page = await client.list_object_versions(Bucket=bucket)
    except UnsupportedError:
        return
    entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    keys = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
    await _delete_batch(client, bucket, keys)


async def _delete_batch(client: Any, bucket: str, keys: list[dict[str, str]]) -> None:
    if not keys:
        return
    with _errors(f"empty {bucket}"):
        answer = await client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    if errors := answer.get("Errors"):
        raise UnavailableError(f"empty {bucket}: {errors[0].get('Key')}: {errors[0].get('Code')}")


async def _abort_uploads(client: Any, bucket: str) -> None:
    with _errors(f"empty {bucket}"):
        answer = await client.list_multipart_uploads(Bucket=bucket)
    for upload in answer.get("Uploads", []):
        with suppress(NotFoundError), _errors(f"empty {bucket}"):  # it has ended meanwhile
            await client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


async def _delete_if_empty(client: Any, bucket: str) -> bool:
    try:
        with _errors(f"delete bucket {bucket}"):
            await client.delete_bucket(Bucket=bucket)
    except ConflictError:
        return False
    return True


def _errors(what: str) -> Any:
    from tidemill_common.storage.s3.botocore_errors import botocore_errors

    return botocore_errors(what)
