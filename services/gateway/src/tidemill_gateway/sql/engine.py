"""One database for the gateway: SQLite (WAL) in one file, or PostgreSQL shared by several replicas.

Transactions write unless they say otherwise: on SQLite `engine.begin()` takes the write lock at once (BEGIN IMMEDIATE),
because a read that turns into a write cannot wait for the lock. `reading(engine)` never blocks and is never blocked.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tidemill_common.errors import InvalidInputError, UnavailableError

_WRITERS: Final[WeakKeyDictionary[sa.Engine, asyncio.Lock]] = WeakKeyDictionary()
_READ_ONLY: Final = "tidemill_read_only"
_PRAGMAS: Final = (
    "PRAGMA busy_timeout=30000",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-65536",
)
"""NORMAL: a power cut may lose the last transactions, never the database; projections then fold them again."""
_OPENING: Final = 30.0
"""Seconds for which another process that opens the same new file is waited for."""


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine for `sqlite+aiosqlite:///<path>` or `postgresql+asyncpg://…`, disposed of at the end.

    Raises:
        InvalidInputError: Another database, or SQLite in memory (it cannot be shared by connections).
        UnavailableError: The file cannot be opened.
    """
    parsed = sa.make_url(url)
    if parsed.drivername == "sqlite+aiosqlite":
        engine = await _sqlite(parsed)
    elif parsed.drivername == "postgresql+asyncpg":
        engine = create_async_engine(parsed, pool_size=8, max_overflow=8, pool_pre_ping=True)
    else:
        raise InvalidInputError(f"database_url: {parsed.drivername} is neither sqlite+aiosqlite nor postgresql+asyncpg")
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that only reads, all of it as it was at one instant."""
    options = {_READ_ONLY: True} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    async with engine.connect() as connection:
        yield await connection.execution_options(**options)


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes. On SQLite the writers of this process queue here: in the database they would sleep."""
    if engine.dialect.name != "sqlite":
        async with engine.begin() as connection:
            yield connection
        return
    lock = _WRITERS.setdefault(engine.sync_engine, asyncio.Lock())
    async with lock, engine.begin() as connection:
        yield connection


async def _sqlite(url: sa.URL) -> AsyncEngine:
    if url.database in (None, "", ":memory:"):
        raise InvalidInputError("database_url: SQLite needs a file")
    await asyncio.to_thread(_make_file, Path(str(url.database)))
    engine = create_async_engine(url, pool_size=8, max_overflow=8)
    sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _make_file(path: Path) -> None:
    """Have the file, with a write-ahead log. For that change alone SQLite does not wait: two who make it at once both
    hold the file for reading, and one of them is told at once that it is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _OPENING
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=_OPENING)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise UnavailableError(f"database {path}: {error}") from error
            time.sleep(0.01)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
