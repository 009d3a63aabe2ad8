"""What the records of LIFECYCLE and DEAD do to SQL."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidemill_common.bus import Log, Record
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import CHANGED, SET_ASIDE, DeadLetter, InvocationChanged
from tidemill_gateway.changes import Changes
from tidemill_gateway.domain.fold import InvocationRow, counted, fold_all
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.projections import Projection, Projector
from tidemill_gateway.sql import accounts, invocation_rows
from tidemill_gateway.sql.projection_tables import dead_letters, invocations


async def fold_invocations(connection: AsyncConnection, records: Sequence[Record[InvocationChanged]]) -> None:
    """Fold records into their Invocations' rows and their Services' accounts."""
    told: dict[InvocationId, list[tuple[InvocationChanged, int]]] = {}
    for record in records:
        told.setdefault(record.body.invocation_id, []).append((record.body, record.position))
    known = await invocation_rows.load(connection, told)
    rows: list[InvocationRow] = []
    entries: list[tuple[str, str]] = []
    for invocation, changes in told.items():
        before = known.get(invocation)
        after = fold_all(before, changes)
        rows.append(after)
        entries.extend((after.service, counter) for counter in counted(before, after))
    await invocation_rows.save(connection, rows)
    await accounts.grow(connection, accounts.summed(entries))


async def keep_dead_letters(connection: AsyncConnection, records: Sequence[Record[DeadLetter]]) -> None:
    """Keep the newest dead letter of each Invocation."""
    newest = {record.body.invocation.id: record for record in records}
    columns = [_letter(newest[key]) for key in sorted(newest)]
    if columns:
        await connection.execute(invocation_rows.upsert(connection, dead_letters), columns)


def _letter(record: Record[DeadLetter]) -> dict[str, object]:
    letter = record.body
    return {
        "id": letter.invocation.id,
        "service": letter.invocation.service,
        "reason": letter.reason,
        "message": letter.message,
        "attempts": letter.attempts,
        "exit_code": letter.exit_code,
        "log_tail": letter.log_tail,
        "at": letter.at,
        "invocation": letter.invocation.encode().decode(),
        "position": record.position,
    }


async def _forget_positions(connection: AsyncConnection) -> None:
    await connection.execute(sa.update(invocations).values(position=0))


async def _forget_letters(connection: AsyncConnection) -> None:
    await connection.execute(sa.delete(dead_letters))


def invocation_projector(
    *, bus_log: Log, engine: AsyncEngine, metrics: Metrics, changes: Changes
) -> Projector[InvocationChanged]:
    """Follows LIFECYCLE."""
    projection = Projection(
        name="invocations",
        subject=CHANGED,
        apply=fold_invocations,
        applied=changes.publish,
        forget=_forget_positions,
    )
    return Projector(projection, bus_log=bus_log, engine=engine, metrics=metrics)


def dead_letter_projector(*, bus_log: Log, engine: AsyncEngine, metrics: Metrics) -> Projector[DeadLetter]:
    """Follows DEAD."""
    projection = Projection(name="dead-letters", subject=SET_ASIDE, apply=keep_dead_letters, forget=_forget_letters)
    return Projector(projection, bus_log=bus_log, engine=engine, metrics=metrics)
