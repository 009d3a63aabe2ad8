"""Files to and from the platform's own store, by the keys of the connection or those that the gateway tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit
from tidemill.platform.connection import Connection
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import BucketStore, ObjectInfo, ObjectStore, Progress
from tidemill_common.storage.opening import open_buckets, open_store


@dataclass(frozen=True, slots=True)
class Objects:
    """The platform's store."""

    store: ObjectStore
    buckets: BucketStore

    async def upload(self, source: Path, path: str, progress: Progress | None = None) -> ObjectInfo:
        """Copy a file into an object."""
        return await self.store.upload(source, path, progress=progress)

    async def download(self, path: str, target: Path, progress: Progress | None = None) -> ObjectInfo:
        """Copy an object into a file."""
        return await self.store.download(path, target, progress=progress)

    async def list(self, path: str) -> list[ObjectInfo]:
        """Objects of a bucket or below a folder, without folder markers."""
        bucket, _, key = path.strip("/").partition("/")
        prefix = f"{bucket}/{key}/" if key else f"{bucket}/"
        found = [info async for info in self.store.list(prefix) if not info.path.endswith("/")]
        if not found and key and (one := await self.store.head(f"{bucket}/{key}")) is not None:
            return [one]
        return found


async def credentials_of(connection: Connection, client: GatewayClient) -> S3Credentials:
    """The store's address and keys."""
    if connection.s3_endpoint is not None:
        return S3Credentials(
            endpoint=connection.s3_endpoint, access_key=connection.s3_access_key, secret_key=connection.s3_secret_key
        )
    config = await client.get("/system/config")
    return S3Credentials.model_validate(config["minio_provider"])


@asynccontextmanager
async def open_objects(connection: Connection, client: GatewayClient) -> AsyncIterator[Objects]:
    """The platform's store for the length of the block."""
    credentials = await credentials_of(connection, client)
    async with open_store("minio", credentials.model_dump()) as store, open_buckets(credentials) as buckets:
        yield Objects(store, buckets)


def destination(source: Path, target: str, *, several: bool) -> str:
    """The path of the object that a file becomes.

    `bucket`, and whatever ends in `/`, is a folder; with several files the target is always one.

    Raises:
        CliError: The target names no bucket.
    """
    bucket, _, key = target.lstrip("/").partition("/")
    if not bucket:
        raise CliError(f"{target!r} names no bucket; give bucket/folder/", Exit.USAGE)
    if not key or key.endswith("/") or several:
        return f"{bucket}/{str(PurePosixPath(key) / source.name) if key else source.name}"
    return f"{bucket}/{key}"
