"""SQLite: tables as the migrations make them, readers that do not wait, projections that apply each record once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidemill_common.bus import Bus, Record
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import CHANGED, Change, InvocationChanged, Phase, changed_subject
from tidemill_common.errors import InvalidInputError, UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_gateway.changes import Changes
from tidemill_gateway.folding import fold_invocations, invocation_projector
from tidemill_gateway.invocations import InvocationFilter, InvocationQueries
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.migrations import load_tables, upgrade
from tidemill_gateway.projections import Projection, Projector
from tidemill_gateway.retention import Janitor
from tidemill_gateway.settings import Retention
from tidemill_gateway.sql.engine import open_database, reading

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database that the migrations made."""
    async with open_database(f"sqlite+aiosqlite:///{tmp_path}/gateway.db") as engine:
        await upgrade(engine)
        yield engine


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    """A bus of the test's own."""
    async with open_bus(BusSettings(url="memory://"), name="test") as bus:
        yield bus


async def tell(bus: Bus, invocation: str, change: Change, attempt: int = 0, at: datetime = NOW) -> None:
    """Append one record."""
    record = InvocationChanged(
        invocation_id=InvocationId(invocation),
        service=ServiceName("thumb"),
        change=change,
        attempt=attempt,
        at=at,
    )
    await bus.log.append(changed_subject(change), record, key="thumb", message_id=record.message_id())


def projector(bus: Bus, engine: AsyncEngine) -> Projector[InvocationChanged]:
    """A replica's projector."""
    return invocation_projector(bus_log=bus.log, engine=engine, metrics=Metrics(), changes=Changes())


async def requested(engine: AsyncEngine) -> list[int]:
    """The counters of the only account: requested, succeeded, pending, pruned."""
    [account] = (await InvocationQueries(engine, Changes()).books()).accounts
    return [account.requested, account.succeeded, account.pending, account.pruned]


def differences(connection: sa.Connection) -> Sequence[Any]:
    """What the tables in code and in the database differ in."""
    return list(compare_metadata(MigrationContext.configure(connection), load_tables()))


async def test_the_migrations_make_the_tables_of_the_code(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_two_processes_that_start_at_once_upgrade_once(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/new.db"
    async with open_database(url) as one, open_database(url) as two:
        await asyncio.gather(upgrade(one), upgrade(two))
        async with two.connect() as connection:
            assert await connection.run_sync(differences) == []


async def test_a_new_file_that_another_process_holds_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(time, "sleep", lambda seconds: other.commit())
        async with open_database(f"sqlite+aiosqlite:///{tmp_path}/new.db") as engine:
            await upgrade(engine)
            async with engine.connect() as connection:
                assert (await connection.execute(sa.text("PRAGMA journal_mode"))).scalar_one() == "wal"


async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=str(tmp_path)):
        async with open_database(f"sqlite+aiosqlite:///{tmp_path}"):
            pass


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "mysql+aiomysql://x/y"])
async def test_a_database_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="database_url"):
        async with open_database(url):
            pass


async def test_readers_do_not_wait_for_a_writer(engine: AsyncEngine) -> None:
    async with engine.begin() as writer:
        await writer.execute(sa.text("INSERT INTO projection_positions VALUES ('x', 1, 0)"))
        async with reading(engine) as reader:
            found = await reader.execute(sa.text("SELECT count(*) FROM projection_positions"))
            assert found.scalar_one() == 0


async def test_a_projector_that_starts_again_goes_on_where_sql_is(bus: Bus, engine: AsyncEngine) -> None:
    await tell(bus, "a", Change.REQUESTED)
    await projector(bus, engine).catch_up()
    await tell(bus, "a", Change.SUCCEEDED, 1)
    await tell(bus, "b", Change.REQUESTED)
    for _ in range(2):
        await projector(bus, engine).catch_up()
    assert await requested(engine) == [2, 1, 1, 0]


async def test_a_batch_that_breaks_off_is_applied_whole_next_time(bus: Bus, engine: AsyncEngine) -> None:
    await tell(bus, "a", Change.REQUESTED)
    await tell(bus, "a", Change.SUCCEEDED, 1)

    async def breaks(connection: AsyncConnection, records: Sequence[Record[InvocationChanged]]) -> None:
        await fold_invocations(connection, records)
        raise RuntimeError("killed")

    whole = projector(bus, engine)
    broken = Projection(name="invocations", subject=whole._projection.subject, apply=breaks)
    with pytest.raises(RuntimeError, match="killed"):
        await Projector(broken, bus_log=bus.log, engine=engine, metrics=Metrics()).catch_up()
    await whole.catch_up()
    assert await requested(engine) == [1, 1, 0, 0]


async def test_a_position_that_was_set_back_makes_the_reader_start_again(bus: Bus, engine: AsyncEngine) -> None:
    running = asyncio.create_task(projector(bus, engine).run())
    queries = InvocationQueries(engine, Changes())
    await tell(bus, "a", Change.REQUESTED)

    async def known(count: int) -> None:
        async with asyncio.timeout(30):
            while await queries.count(InvocationFilter()) != count:
                await asyncio.sleep(0)

    await known(1)
    async with engine.begin() as connection:  # a backup was restored
        for table in ("invocations", "accounts"):
            await connection.execute(sa.text(f"DELETE FROM {table}"))
        await connection.execute(sa.text("UPDATE projection_positions SET position = 0"))
    await tell(bus, "b", Change.REQUESTED)
    await known(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await requested(engine) == [2, 0, 2, 0]


async def test_what_is_old_and_ended_is_pruned_and_stays_in_the_accounts(bus: Bus, engine: AsyncEngine) -> None:
    old = NOW - timedelta(days=40)
    for name, at in (("old", old), ("new", NOW)):
        await tell(bus, name, Change.REQUESTED, at=at)
        await tell(bus, name, Change.SUCCEEDED, 1, at=at)
    await tell(bus, "open", Change.REQUESTED, at=old)
    await projector(bus, engine).catch_up()
    store = MemoryObjectStore("tidemill", now=lambda: NOW)
    await store.put("tidemill/payloads/e", b"x")
    queries = InvocationQueries(engine, Changes())
    assert await queries.hide("thumb", only_succeeded=False) == 2
    assert await queries.hide_one("thumb", "open") is False
    janitor = Janitor(
        engine=engine, bus_log=bus.log, store=store, bucket="tidemill", retention=Retention(), now=lambda: NOW
    )
    await janitor.clean()
    left = {row.id: row.phase for row in (await queries.list(InvocationFilter(hidden=True))).rows}
    assert left == {"new": Phase.SUCCEEDED, "open": Phase.PENDING}
    assert await requested(engine) == [3, 2, 1, 1]
    assert await store.head("tidemill/payloads/e") is not None


async def test_hidden_invocations_are_in_no_page_but_in_the_accounts(bus: Bus, engine: AsyncEngine) -> None:
    for number in range(75):
        await tell(bus, f"i{number:02}", Change.SUCCEEDED, 1, at=NOW + timedelta(seconds=number))
    await tell(bus, "gone", Change.SUCCEEDED, 1)
    await projector(bus, engine).catch_up()
    queries = InvocationQueries(engine, Changes())
    assert await queries.hide_one("thumb", "gone")
    first = await queries.jobs("thumb")
    second = await queries.jobs("thumb", cursor=first.next)
    assert (len(first.rows), first.remaining, len(second.rows), second.next) == (70, 5, 5, None)
    assert (await requested(engine))[1] == 76
    await tell(bus, "gone", Change.REQUESTED)
    await projector(bus, engine).catch_up()
    assert (await queries.get("gone")).hidden


async def test_a_replica_that_is_behind_brings_nothing_back(bus: Bus, engine: AsyncEngine) -> None:
    applied: list[int] = []

    async def notes(_: AsyncConnection, records: Sequence[Record[InvocationChanged]]) -> None:
        applied.extend(record.position for record in records)

    projection = Projection(name="notes", subject=CHANGED, apply=notes)
    fast, slow = (Projector(projection, bus_log=bus.log, engine=engine, metrics=Metrics()) for _ in range(2))
    await tell(bus, "a", Change.REQUESTED)
    await tell(bus, "b", Change.REQUESTED)
    async with bus.log.read(CHANGED) as records:
        batch = [record async for record in records]
    await slow._start()
    await fast.catch_up()
    await slow._handle(batch)
    assert applied == [1, 2]
