"""Services and their revisions in SQL. One transaction writes both, by compare-and-set on the revision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Service
from tidemill_common.errors import ConflictError
from tidemill_gateway.catalogue.definition import Definition, Revision
from tidemill_gateway.catalogue.errors import NameTakenError
from tidemill_gateway.catalogue.tables import revisions, services
from tidemill_gateway.sql.engine import reading

_TAKEN: Final = "A service with the provided name already exists"


class ServiceRows:
    """Reads and writes the tables `services` and `revisions`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, name: str) -> Definition | None:
        """The Service as SQL has it."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(services).where(services.c.name == name))).one_or_none()
        return None if row is None else _definition(row)

    async def all(self) -> list[Definition]:
        """Every Service, by name."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(services).order_by(services.c.name))).all()
        return [_definition(row) for row in rows]

    async def insert(self, definition: Definition, revision: Revision) -> None:
        """Add a Service.

        Raises:
            NameTakenError: There is one of this name.
        """
        try:
            async with self._engine.begin() as connection:
                await connection.execute(insert(services).values(_service_values(definition)))
                await connection.execute(insert(revisions).values(_revision_values(revision)))
        except IntegrityError as error:
            raise NameTakenError(_TAKEN) from error

    async def replace(self, definition: Definition, revision: Revision, *, expected: int) -> None:
        """Put a new revision in the place of `expected`.

        Raises:
            ConflictError: Somebody changed or removed the Service in between.
        """
        statement = update(services).where(_is(revision.name, expected)).values(_service_values(definition))
        async with self._engine.begin() as connection:
            if (await connection.execute(statement)).rowcount != 1:
                raise ConflictError(f"service {revision.name} was changed by somebody else at the same time")
            await connection.execute(insert(revisions).values(_revision_values(revision)))

    async def remove(self, revision: Revision, *, expected: int) -> None:
        """Take a Service out; its revisions stay.

        Raises:
            ConflictError: Somebody changed or removed it in between.
        """
        async with self._engine.begin() as connection:
            if (await connection.execute(delete(services).where(_is(revision.name, expected)))).rowcount != 1:
                raise ConflictError(f"service {revision.name} was changed by somebody else at the same time")
            await connection.execute(insert(revisions).values(_revision_values(revision)))

    async def last_number(self, name: str) -> int:
        """The newest revision of a name, removals included; 0: the name was never used."""
        statement = select(func.max(revisions.c.number)).where(revisions.c.service == name)
        async with reading(self._engine) as connection:
            return (await connection.execute(statement)).scalar() or 0

    async def was_removed(self, name: str) -> bool:
        """Whether there was one of this name that was removed."""
        removed = select(revisions.c.number).where(revisions.c.service == name, revisions.c.removed).limit(1)
        async with reading(self._engine) as connection:
            return (await connection.execute(removed)).first() is not None

    async def newest(self) -> list[Revision]:
        """The newest revision of every name that was ever used."""
        last = select(revisions.c.service, func.max(revisions.c.number).label("number")).group_by(revisions.c.service)
        each = last.subquery()
        same = and_(revisions.c.service == each.c.service, revisions.c.number == each.c.number)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(revisions).join(each, same))).all()
        return [_revision(row) for row in rows]

    async def revisions(self, name: str, *, limit: int = 100) -> list[Revision]:
        """A name's revisions, newest first."""
        mine = select(revisions).where(revisions.c.service == name)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(mine.order_by(revisions.c.number.desc()).limit(limit))).all()
        return [_revision(row) for row in rows]


def _is(name: str, revision: int) -> Any:
    return and_(services.c.name == name, services.c.revision == revision)


def _service_values(definition: Definition) -> dict[str, object]:
    service = definition.service
    return {
        "name": service.name,
        "owner": service.owner,
        "namespace": service.namespace,
        "token": definition.token,
        "revision": definition.revision,
        "definition": _document(service),
        "created_at": definition.created_at,
        "updated_at": definition.updated_at,
    }


def _revision_values(revision: Revision) -> dict[str, object]:
    return {
        "service": revision.name,
        "number": revision.number,
        "at": revision.at,
        "who": revision.who,
        "changed": list(revision.changed),
        "removed": revision.removed,
        "definition": None if revision.service is None else _document(revision.service),
    }


def _document(service: Service) -> object:
    return json.loads(service.encode())


def _definition(row: Row[Any]) -> Definition:
    return Definition(
        service=Service.model_validate(row.definition),
        token=row.token,
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _revision(row: Row[Any]) -> Revision:
    changed: Sequence[str] = row.changed
    return Revision(
        name=ServiceName(row.service),
        number=row.number,
        at=row.at,
        who=row.who,
        changed=tuple(changed),
        removed=row.removed,
        service=None if row.definition is None else Service.model_validate(row.definition),
    )
