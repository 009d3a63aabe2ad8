"""How far each projection has gone; moved by compare-and-set in the transaction of the rows it stands for."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidemill_gateway.sql.prepared import prepared
from tidemill_gateway.sql.projection_tables import projection_positions


async def locked_position(connection: AsyncConnection, name: str) -> int:
    """The position, held until the transaction ends: on PostgreSQL another replica waits here, on SQLite at BEGIN."""
    query = prepared(connection, _locking)
    position = (await connection.exec_driver_sql(query.text, query.parameters((name,)))).scalar_one_or_none()
    return 0 if position is None else int(position)


def _locking(_: AsyncConnection) -> sa.Executable:
    table = projection_positions
    return sa.select(table.c.position).where(table.c.name == sa.bindparam("wanted")).with_for_update()


async def declare(connection: AsyncConnection, name: str) -> None:
    """Make sure that the projection has a position, so that there is a record to lock."""
    known = await connection.execute(sa.select(projection_positions.c.name).where(projection_positions.c.name == name))
    if known.first() is None:
        await connection.execute(projection_positions.insert().values(name=name, position=0, skipped=0))


async def move(connection: AsyncConnection, name: str, *, before: int, after: int, skipped: int = 0) -> bool:
    """Set the position if it is still `before`; False: somebody else moved it."""
    statement = prepared(connection, _moving)
    values = {"wanted": name, "before": before, "after": after, "missed": skipped}
    parameters = statement.parameters(map(values.__getitem__, statement.names))
    return (await connection.exec_driver_sql(statement.text, parameters)).rowcount == 1


def _moving(_: AsyncConnection) -> sa.Executable:
    table, value = projection_positions, sa.bindparam
    return (
        sa.update(table)
        .where(table.c.name == value("wanted"), table.c.position == value("before"))
        .values(position=value("after"), skipped=table.c.skipped + value("missed"))
    )


async def skipped_records(connection: AsyncConnection) -> dict[str, int]:
    """How many records each projection could not see, because retention was faster."""
    found = await connection.execute(sa.select(projection_positions.c.name, projection_positions.c.skipped))
    return {name: int(count) for name, count in found}
