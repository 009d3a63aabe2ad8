"""Alembic revisions of the gateway's database, applied at start: `upgrade(engine)`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

_LOCK: Final = 0x7469_6465_6D69_6C6C
"""Advisory lock of PostgreSQL: two replicas that start at once upgrade one after the other. SQLite's write
lock does the same there, since a transaction begins with it."""


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Bring the database to `revision`; safe to call from several processes at once."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, revision)


def _upgrade(connection: sa.Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def load_tables() -> sa.MetaData:
    """The metadata with all tables of the gateway declared in it."""
    for module in ("tidemill_gateway.sql.projection_tables", "tidemill_gateway.catalogue.tables"):
        import_module(module)
    return import_module("tidemill_gateway.sql.metadata").metadata  # type: ignore[no-any-return]  # a module's attribute
