"""Between `InvocationRow` and its table: every column, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from tidemill_common.contracts.event import ArtifactRef, Lane
from tidemill_common.contracts.invocation import Phase, Reason
from tidemill_gateway.domain.fold import FIELDS, InvocationRow
from tidemill_gateway.sql.prepared import Convert, outward, prepared
from tidemill_gateway.sql.projection_tables import invocations

_ARTIFACTS: Final = TypeAdapter(tuple[ArtifactRef, ...])
_VALUES: Final = attrgetter(*FIELDS)
_COLUMNS: Final = tuple(invocations.c[name] for name in FIELDS)


def to_columns(row: InvocationRow) -> dict[str, Any]:
    """The row as the table's columns."""
    columns = dict(zip(FIELDS, _VALUES(row), strict=True))
    columns["input"] = row.input.encode().decode() if row.input else None
    columns["result_ref"] = row.result_ref.encode().decode() if row.result_ref else None
    columns["outputs"] = _ARTIFACTS.dump_json(row.outputs, exclude_none=True).decode() if row.outputs else None
    return columns


def from_columns(columns: Mapping[Any, Any]) -> InvocationRow:
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
    wanted = json.dumps(sorted(ids)) if connection.dialect.name == "sqlite" else sorted(ids)
    query = prepared(connection, _by_ids)
    found = await connection.exec_driver_sql(query.text, query.parameters((wanted,)))
    convert = _outward(connection.dialect)
    return {row.id: row for row in (_row(record, convert) for record in found.fetchall())}


async def save(connection: AsyncConnection, rows: Iterable[InvocationRow]) -> None:
    """Insert or replace rows, in the order of their ids; `hidden` stays as it is."""
    columns = [to_columns(row) for row in sorted(rows, key=lambda row: row.id)]
    if columns:
        statement = prepared(connection, _replace)
        values = [statement.parameters(map(each.__getitem__, statement.names)) for each in columns]
        await connection.exec_driver_sql(statement.text, values)


def _by_ids(connection: AsyncConnection) -> sa.Select[Any]:
    """The list of ids is one parameter, so that the statement stays the same."""
    if connection.dialect.name == "sqlite":
        listed = sa.func.json_each(sa.bindparam("ids", type_=sa.Text)).table_valued("value")
        return sa.select(*_COLUMNS).where(invocations.c.id.in_(sa.select(listed.c.value)))
    return sa.select(*_COLUMNS).where(invocations.c.id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Text))))


def _replace(connection: AsyncConnection) -> sa.Executable:
    return upsert(connection, invocations, keep=("hidden",))


@cache
def _outward(dialect: sa.Dialect) -> tuple[tuple[int, Convert], ...]:
    return outward(_COLUMNS, dialect)


def _row(record: Sequence[Any], converters: Iterable[tuple[int, Convert]]) -> InvocationRow:
    values = list(record)
    for index, convert in converters:
        values[index] = convert(values[index])
    return from_columns(dict(zip(FIELDS, values, strict=True)))


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
