"""Removing a bucket while others work in it."""

from __future__ import annotations

from typing import Any, cast

from botocore.exceptions import ClientError

from tidemill_common.secrets import S3Credentials
from tidemill_common.storage.s3.buckets import S3BucketStore
from tidemill_common.storage.s3.clients import LazyClient


class _Client:
    """A bucket with one upload, which ends as soon as it has been listed."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def get(self) -> _Client:
        return self

    async def list_multipart_uploads(self, **_: Any) -> Any:
        return {"Uploads": [{"Key": "in/a", "UploadId": "1"}]}

    async def abort_multipart_upload(self, **_: Any) -> Any:
        answer = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(cast(Any, answer), "AbortMultipartUpload")

    async def list_objects_v2(self, **_: Any) -> Any:
        return {}

    async def delete_bucket(self, *, Bucket: str) -> None:  # noqa: N803 (botocore's name)
        self.deleted.append(Bucket)


async def test_an_upload_that_ends_meanwhile_does_not_keep_a_bucket() -> None:
    client = _Client()
    store = S3BucketStore(S3Credentials(access_key="a", secret_key="b"), cast(LazyClient, client))
    await store.delete_bucket("data")
    assert client.deleted == ["data"]
