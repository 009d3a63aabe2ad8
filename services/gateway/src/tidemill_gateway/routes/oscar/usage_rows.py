"""How much was asked for in a period, out of the Invocations: one row for each Service, user and kind of call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.contracts.event import Lane
from tidemill_gateway.sql.engine import reading
from tidemill_gateway.sql.projection_tables import invocations


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one user asked of one Service in one way."""

    service: str
    user: str
    """Who caused it, as the source tells; empty: nobody is named."""
    is_synchronous: bool
    requests: int
    run_seconds: float = 0
    """From start to end, of those that ended."""


async def read_usage(engine: AsyncEngine, start: datetime, end: datetime) -> Sequence[Usage]:
    """What was requested from `start` to before `end`, deleted jobs included."""
    table = invocations.c
    user, synchronous = sa.func.coalesce(table.principal, ""), table.lane == Lane.INTERACTIVE.value
    async with reading(engine) as connection:
        seconds = sa.func.sum(_run_seconds(connection.dialect.name))
        query = sa.select(table.service, user, synchronous, sa.func.count(), sa.func.coalesce(seconds, 0.0))
        query = query.where(table.requested_at >= start, table.requested_at < end)
        rows = await connection.execute(query.group_by(table.service, user, synchronous))
        return [
            Usage(service=name, user=who, is_synchronous=bool(sync), requests=number, run_seconds=float(ran))
            for name, who, sync, number, ran in rows
        ]


def _run_seconds(dialect: str) -> sa.ColumnElement[Any]:
    started, finished = invocations.c.started_at, invocations.c.finished_at
    if dialect == "postgresql":
        return sa.func.extract("epoch", finished - started)
    return (sa.func.julianday(finished) - sa.func.julianday(started)) * 86_400.0
