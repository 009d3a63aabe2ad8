"""Buckets and folders of Services: made when a Service is applied, safe to repeat, never removed by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog

from tidemill_common.contracts.service import Service
from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TidemillError,
    TransientError,
    UnsupportedError,
)
from tidemill_common.secrets import SecretRecord
from tidemill_common.storage import BucketStore, ObjectStore
from tidemill_gateway.catalogue.bucket_rows import Bucket, BucketRows, same_owner
from tidemill_gateway.catalogue.errors import BucketRefusedError
from tidemill_gateway.catalogue.folders import Folder, folders_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """One S3 store, open."""

    buckets: BucketStore
    objects: ObjectStore
    signer: BucketStore
    """Signs URLs for clients: it has the endpoint that they use."""


class Stores(Protocol):
    """Reaches the stores of providers."""

    def platform(self) -> Store:
        """The platform's own store."""
        ...

    def other(self, provider: str, fields: Mapping[str, object]) -> AbstractAsyncContextManager[Store]:
        """A provider of the user's, reached with their credentials, for as long as the context lasts."""
        ...


class Places:
    """Makes what Services read from and write to."""

    def __init__(self, rows: BucketRows, stores: Stores, *, now: Callable[[], datetime]) -> None:
        self._rows = rows
        self._stores = stores
        self._now = now

    async def prepare(self, service: Service, secrets: SecretRecord) -> None:
        """Make sure that every bucket and folder of the Service is there, and that it may use them.

        Raises:
            BucketRefusedError: A bucket belongs to somebody else.
            InvalidInputError: A store refuses a bucket's name, or the credentials that were given for it.
            TransientError: A store does not answer.
        """
        for folder in folders_of(service):
            if folder.is_local:
                await self._prepare_local(folder, service)
            else:
                await self._prepare_other(folder, secrets.providers.get(folder.provider, {}))

    async def _prepare_local(self, folder: Folder, service: Service) -> None:
        wanted = Bucket(
            name=folder.bucket,
            owner=service.owner,
            visibility=service.visibility,
            allowed_users=service.allowed_users,
            from_service=service.name,
            created_at=self._now(),
        )
        await self.claim(wanted)
        await self.make_folder(folder)

    async def claim(self, wanted: Bucket) -> bool:
        """Make the bucket, or use one that is there if it is the same owner's; False: it was there."""
        if (known := await self._rows.get(wanted.name)) is not None and not known.is_of(wanted.owner):
            raise BucketRefusedError(f"the bucket {wanted.name!r} belongs to another user")
        created = await _create(self._stores.platform().buckets, wanted.name)
        if created:
            await _tag(self._stores.platform().buckets, wanted)
        elif known is None:
            await self._check_owner(wanted)
        if known is None:
            await self._rows.add(wanted if created else replace(wanted, from_service=""))
        return created

    async def make_folder(self, folder: Folder) -> None:
        """Make a folder of the platform's own store visible; one that is there is success."""
        await _make_folder(self._stores.platform(), folder)

    async def _check_owner(self, wanted: Bucket) -> None:
        tags = await _tags(self._stores.platform().buckets, wanted.name)
        if not same_owner(tags.get("owner", ""), wanted.owner):
            raise BucketRefusedError(f"the bucket {wanted.name!r} belongs to another user")

    async def _prepare_other(self, folder: Folder, fields: Mapping[str, object]) -> None:
        try:
            async with self._stores.other(folder.provider, fields) as store:
                await _create(store.buckets, folder.bucket)
                await _make_folder(store, folder)
        except (AccessDeniedError, NotFoundError, UnsupportedError) as error:
            raise InvalidInputError(f"{folder.provider}: cannot prepare {folder.bucket!r}: {error}") from error


async def _create(store: BucketStore, name: str) -> bool:
    try:
        return await store.create_bucket(name)
    except ConflictError as error:
        raise BucketRefusedError(f"the bucket {name!r} belongs to another account of the store") from error


async def _make_folder(store: Store, folder: Folder) -> None:
    if folder.marker is not None and await store.objects.head(folder.marker) is None:
        await store.objects.put(folder.marker, b"")


async def _tag(store: BucketStore, bucket: Bucket) -> None:
    try:
        await store.set_tags(bucket.name, bucket.tags)
    except TransientError:
        raise
    except TidemillError as error:  # tags are for other tools; ours are in SQL, so a store without them is fine
        log.warning("bucket not tagged", bucket=bucket.name, error=str(error))


async def _tags(store: BucketStore, name: str) -> Mapping[str, str]:
    try:
        return await store.tags(name)
    except (UnsupportedError, NotFoundError):
        return {}
