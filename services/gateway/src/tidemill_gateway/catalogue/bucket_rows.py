"""Which buckets the platform knows, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_gateway.catalogue.tables import buckets
from tidemill_gateway.sql.engine import reading

ADMIN_OWNERS: Final = frozenset({"", "oscar", "cluster_admin"})
"""What the admin is called: by the tags of OSCAR's buckets, and as owner of Services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of the platform's own store."""

    name: str
    owner: str
    visibility: str = "private"
    allowed_users: tuple[str, ...] = ()
    from_service: str = ""
    """The Service that it was made for; empty: none."""
    created_at: datetime

    def is_of(self, owner: str) -> bool:
        """Whether this owner may use it as their own."""
        return same_owner(self.owner, owner)

    @property
    def tags(self) -> Mapping[str, str]:
        """What its tags in the store say (OSCAR contract 2.4)."""
        owner = "oscar" if self.owner in ADMIN_OWNERS else self.owner
        tags = {"owner": owner, "owner_name": owner}
        return tags | ({"from_service": self.from_service} if self.from_service else {})


def same_owner(one: str, other: str) -> bool:
    """Whether two names are of one owner."""
    return one == other or {one, other} <= ADMIN_OWNERS


class BucketRows:
    """Reads and writes the table `buckets`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, name: str) -> Bucket | None:
        """The bucket as SQL has it."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(buckets).where(buckets.c.name == name))).one_or_none()
        return None if row is None else _bucket(row)

    async def all(self) -> dict[str, Bucket]:
        """Every bucket by name."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(buckets).order_by(buckets.c.name))).all()
        return {row.name: _bucket(row) for row in rows}

    async def add(self, bucket: Bucket) -> bool:
        """Make it known; False: it was."""
        try:
            async with self._engine.begin() as connection:
                await connection.execute(insert(buckets).values(_values(bucket)))
        except IntegrityError:
            return False
        return True

    async def set_visibility(self, name: str, visibility: str, allowed_users: tuple[str, ...]) -> None:
        """Change who may see it."""
        values = {"visibility": visibility, "allowed_users": list(allowed_users)}
        async with self._engine.begin() as connection:
            await connection.execute(update(buckets).where(buckets.c.name == name).values(values))

    async def remove(self, name: str) -> None:
        """Forget it; one that is not known is success."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(buckets).where(buckets.c.name == name))


def _values(bucket: Bucket) -> dict[str, object]:
    return {
        "name": bucket.name,
        "owner": bucket.owner,
        "visibility": bucket.visibility,
        "allowed_users": list(bucket.allowed_users),
        "from_service": bucket.from_service,
        "created_at": bucket.created_at,
    }


def _bucket(row: Row[Any]) -> Bucket:
    return Bucket(
        name=row.name,
        owner=row.owner,
        visibility=row.visibility,
        allowed_users=tuple(row.allowed_users),
        from_service=row.from_service,
        created_at=row.created_at,
    )
