"""Between `InvocationRow` and its table: every column, both ways."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from tidemill_common.contracts.event import ArtifactRef, Lane
from tidemill_common.contracts.invocation import Phase, Reason
from tidemill_gateway.domain.fold import FIELDS, InvocationRow
from tidemill_gateway.sql.projection_tables import invocations

_ARTIFACTS: Final = TypeAdapter(tuple[ArtifactRef, ...])
_VALUES: Final = attrgetter(*FIELDS)


def to_columns(row: InvocationRow) -> dict[str, Any]:
    """The row as the table's columns."""
    columns = dict(zip(FIELDS, _VALUES(row), strict=True))
    columns["input"] = row.input.encode().decode() if row.input else None
    columns["result_ref"] = row.result_ref.encode().decode() if row.result_ref else None
    columns["outputs"] = _ARTIFACTS.dump_json(row.outputs, exclude_none=True).decode() if row.outputs else None
    return columns


def from_columns(columns: sa.RowMapping) -> InvocationRow:
    """The row of one record of the table."""
    values: dict[str, Any] = {str(name): value for name, value in columns.items()}
    values["phase"] = Phase(values["phase"])
    values["reason"] = Reason(values["reason"]) if values["reason"] else None
    values["lane"] = Lane(values["lane"]) if values["lane"] else None
    values["input"] = ArtifactRef.decode(values["input"].encode()) if values["input"] else None
    values["result_ref"] = ArtifactRef.decode(values["result_ref"].encode()) if values["result_ref"] else None
    values["outputs"] = _ARTIFACTS.validate_json(values["outputs"]) if values["outputs"] else ()
    return InvocationRow(**values)


async def load(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, InvocationRow]:
    """The rows with these ids, by id."""
    found = await connection.execute(sa.select(invocations).where(invocations.c.id.in_(sorted(ids))))
    return {record["id"]: from_columns(record) for record in found.mappings()}


async def save(connection: AsyncConnection, rows: Iterable[InvocationRow]) -> None:
    """Insert or replace rows, in the order of their ids; `hidden` stays as it is."""
    columns = [to_columns(row) for row in sorted(rows, key=lambda row: row.id)]
    if columns:
        await connection.execute(upsert(connection, invocations, keep=("hidden",)), columns)


def upsert(connection: AsyncConnection, table: sa.Table, *, keep: tuple[str, ...] = ()) -> sa.Executable:
    """INSERT that replaces all columns of an existing record but its key and `keep`."""
    insert = insert_or_update(connection, table)
    skipped = {*keep, *(column.name for column in table.primary_key)}
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in skipped}
    updating: sa.Executable = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
    return updating


def insert_or_update(connection: AsyncConnection, table: sa.Table) -> Any:
    """The dialect's INSERT, which knows `on_conflict_do_update`; both dialects spell it alike but share no type."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
