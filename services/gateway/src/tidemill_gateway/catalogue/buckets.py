"""Buckets as OSCAR's API shows them: made, listed, shared, removed, and lent out by presigned URLs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final, Literal

from tidemill_common.contracts.service import DEFAULT_PROVIDER, Service
from tidemill_common.errors import InvalidInputError, NotFoundError, UnsupportedError
from tidemill_common.storage import ObjectInfo
from tidemill_gateway.catalogue.bucket_rows import Bucket, BucketRows
from tidemill_gateway.catalogue.errors import BucketRefusedError, NameTakenError
from tidemill_gateway.catalogue.folders import Folder, buckets_of
from tidemill_gateway.catalogue.places import Places, Stores

PAGE: Final = 70
"""Objects of one page, as in OSCAR."""
_COUNTED: Final = 10_000
"""Objects of a bucket that are looked at to tell its usage."""
_REMEMBERED: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is in a bucket."""

    size_bytes: int = 0
    objects: int = 0
    is_complete: bool = True
    """False: there is more than was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some objects of a bucket, in the order of their keys."""

    objects: Sequence[ObjectInfo]
    next_page: str | None
    """Asks for the objects behind these; None: there are none."""


class Buckets:
    """The platform's buckets, its own excepted."""

    def __init__(
        self,
        rows: BucketRows,
        places: Places,
        stores: Stores,
        *,
        system_bucket: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rows = rows
        self._places = places
        self._stores = stores
        self._system_bucket = system_bucket
        self._now = now
        self._usages: dict[str, tuple[datetime, Usage]] = {}

    async def create(self, path: str, *, owner: str, visibility: str, allowed_users: tuple[str, ...]) -> None:
        """Make a bucket, and the folder behind it if `path` has one.

        Raises:
            InvalidInputError: The store refuses the name.
            NameTakenError: It is there already.
        """
        name, _, folder = path.strip().strip("/").partition("/")
        if not name:
            raise InvalidInputError("bucket_name is required")
        self._refuse_system(name)
        wanted = Bucket(
            name=name,
            owner=owner,
            visibility=visibility or "private",
            allowed_users=allowed_users,
            created_at=self._now(),
        )
        if not await self._places.claim(wanted):
            raise NameTakenError(f"A bucket with the name {name} already exists")
        await self._places.make_folder(Folder(DEFAULT_PROVIDER, name, folder))

    async def all(self) -> list[Bucket]:
        """Every bucket of the store, by name; those that nobody made through us count as the admin's."""
        known = await self._rows.all()
        names = await self._stores.platform().buckets.buckets()
        return [known.get(name) or await self._stranger(name) for name in names if name != self._system_bucket]

    async def get(self, name: str) -> Bucket:
        """One bucket.

        Raises:
            NotFoundError: It is not there.
        """
        if name == self._system_bucket or name not in await self._stores.platform().buckets.buckets():
            raise NotFoundError(f"The bucket '{name}' does not exist")
        return await self._rows.get(name) or await self._stranger(name)

    async def share(self, name: str, *, visibility: str, allowed_users: tuple[str, ...]) -> None:
        """Change who may see it.

        Raises:
            NotFoundError: It is not there.
        """
        await self._rows.add(await self.get(name))
        await self._rows.set_visibility(name, visibility or "private", allowed_users)

    async def remove(self, name: str) -> None:
        """Remove it with all its objects.

        Raises:
            NotFoundError: It is not there.
            BucketRefusedError: It is the platform's own.
        """
        self._refuse_system(name)
        await self.get(name)
        await self._stores.platform().buckets.delete_bucket(name)
        await self._rows.remove(name)

    async def remove_of(self, service: Service, *, in_use: Set[str]) -> None:
        """Remove the buckets that were made for a Service, but those that others use; gone ones are success."""
        known = await self._rows.all()
        for name in sorted(buckets_of(service) - in_use):
            if name in known and known[name].from_service == service.name:
                await self._stores.platform().buckets.delete_bucket(name)
                await self._rows.remove(name)

    async def page(self, name: str, after: str) -> Page:
        """The objects behind `after`, which is empty or the `next_page` of the page before.

        Raises:
            InvalidInputError: `after` is neither.
        """
        start = f"{name}/{_decoded(after)}" if after else None
        found: list[ObjectInfo] = []
        async for item in self._stores.platform().objects.list(f"{name}/", after=start):
            if len(found) == PAGE:
                return Page(objects=found, next_page=_encoded(found[-1].path.removeprefix(f"{name}/")))
            found.append(item)
        return Page(objects=found, next_page=None)

    async def usage(self, name: str) -> Usage:
        """How much is in a bucket, at most half a minute old; large ones are counted in part."""
        known = self._usages.get(name)
        if known is None or self._now() - known[0] > _REMEMBERED:
            known = self._usages[name] = (self._now(), await self._counted(name))
        return known[1]

    async def presign(
        self, path: str, operation: Literal["upload", "download"], *, expires: timedelta, content_type: str | None
    ) -> str:
        """A URL for one object of a bucket.

        Raises:
            NotFoundError: The bucket is not there.
        """
        await self.get(path.partition("/")[0])
        signer = self._stores.platform().signer
        return await signer.presign(path, operation, expires=expires, content_type=content_type)

    async def _counted(self, name: str) -> Usage:
        size, numbers = 0, count()
        async for item in self._stores.platform().objects.list(f"{name}/"):
            if next(numbers) == _COUNTED:
                return Usage(size_bytes=size, objects=_COUNTED, is_complete=False)
            size += item.size_bytes
        return Usage(size_bytes=size, objects=next(numbers))

    async def _stranger(self, name: str) -> Bucket:
        try:
            tags = await self._stores.platform().buckets.tags(name)
        except (NotFoundError, UnsupportedError):
            tags = {}
        return Bucket(
            name=name,
            owner=tags.get("owner", ""),
            from_service=tags.get("from_service", ""),
            created_at=self._now(),
        )

    def _refuse_system(self, name: str) -> None:
        if name == self._system_bucket:
            raise BucketRefusedError(f"the bucket {name!r} is the platform's own")


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _decoded(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("page is not one that this server gave out") from error
