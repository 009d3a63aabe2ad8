"""Accounts of the Services: counters that grow with the fold, and the open Invocations as the rows say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidemill_common.contracts.invocation import Phase
from tidemill_gateway.domain.account import Account
from tidemill_gateway.domain.fold import COUNTERS
from tidemill_gateway.sql.invocation_rows import insert_or_update
from tidemill_gateway.sql.prepared import prepared
from tidemill_gateway.sql.projection_tables import accounts, invocations

Deltas = Mapping[str, Counter[str]]
"""Service -> counter -> by how much it grows."""


async def grow(connection: AsyncConnection, deltas: Deltas) -> None:
    """Add to the counters; all Services in one statement, in the order of their names."""
    grown = [service for service in sorted(deltas) if deltas[service].total()]
    if not grown:
        return
    statement = prepared(connection, _growth)
    records = [{"service": service, **{name: deltas[service][name] for name in COUNTERS}} for service in grown]
    values = [statement.parameters(map(record.__getitem__, statement.names)) for record in records]
    await connection.exec_driver_sql(statement.text, values)


def _growth(connection: AsyncConnection) -> sa.Executable:
    insert = insert_or_update(connection, accounts)
    sums = {name: accounts.c[name] + insert.excluded[name] for name in COUNTERS}
    growth: sa.Executable = insert.on_conflict_do_update(index_elements=["service"], set_=sums)
    return growth


async def read_accounts(connection: AsyncConnection, service: str | None = None) -> Sequence[Account]:
    """The accounts by Service's name; both queries see one state when the transaction does."""
    counters, open_rows = sa.select(accounts), _open_rows()
    if service is not None:
        counters = counters.where(accounts.c.service == service)
        open_rows = open_rows.where(invocations.c.service == service)
    counts = {row["service"]: dict(row) for row in (await connection.execute(counters)).mappings()}
    for name, phase, number in await connection.execute(open_rows):
        counts.setdefault(name, {"service": name})[phase.lower()] = number
    return [Account(**counts[name]) for name in sorted(counts)]


def _open_rows() -> sa.Select[Any]:
    table = invocations.c
    return (
        sa.select(table.service, table.phase, sa.func.count())
        .where(table.phase.in_((Phase.PENDING.value, Phase.RUNNING.value)))
        .group_by(table.service, table.phase)
    )


def summed(entries: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """Deltas of (service, counter) pairs."""
    deltas: dict[str, Counter[str]] = {}
    for service, counter in entries:
        deltas.setdefault(service, Counter())[counter] += 1
    return deltas
