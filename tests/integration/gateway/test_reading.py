"""What is read in one transaction is of one instant, whatever is written meanwhile: accounts must balance in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidemill_gateway.sql.engine import open_database, reading, writing

pytestmark = pytest.mark.integration


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of each kind of database."""
    return (
        f"sqlite+aiosqlite:///{tmp_path}/x.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    )


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """A database with an empty table."""
    async with open_database(url) as engine:
        async with writing(engine) as connection:
            await connection.execute(sa.text("CREATE TABLE written (number INTEGER)"))
        yield engine


async def count(connection: AsyncConnection) -> int:
    """Rows that are seen."""
    return int((await connection.execute(sa.text("SELECT count(*) FROM written"))).scalar_one())


async def test_what_is_written_meanwhile_is_not_seen(engine: AsyncEngine) -> None:
    async with reading(engine) as connection:
        assert await count(connection) == 0
        async with writing(engine) as other:
            await other.execute(sa.text("INSERT INTO written VALUES (1)"))
        assert await count(connection) == 0
    async with reading(engine) as connection:
        assert await count(connection) == 1
