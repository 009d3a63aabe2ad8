"""LIFECYCLE on a real NATS, folded into a real PostgreSQL by several replicas, of which any may die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tests.servers import Running
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus, Record
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import CHANGED, Change, InvocationChanged, changed_subject
from tidemill_common.settings import BusSettings
from tidemill_gateway.changes import Changes
from tidemill_gateway.domain.account import Account
from tidemill_gateway.folding import fold_invocations
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.migrations import load_tables, upgrade
from tidemill_gateway.projections import Projection, Projector
from tidemill_gateway.sql.engine import open_database

pytestmark = pytest.mark.integration
NOW = datetime(2026, 1, 2, tzinfo=UTC)
NUMBER = 400


@pytest.fixture
async def bus(nats: Running) -> AsyncIterator[Bus]:
    """The module's bus; requests outlast the moment in which one of the tests starts it again."""
    assert isinstance(nats.server, NatsServer)
    settings = BusSettings(url=nats.server.url, request_timeout=timedelta(seconds=30))
    async with open_bus(settings, name="test") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
async def engine(postgresql: str) -> AsyncIterator[AsyncEngine]:
    """A database with empty tables."""
    async with open_database(postgresql) as engine:
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            await connection.execute(sa.text("CREATE SCHEMA public"))
        await upgrade(engine)
        yield engine


def differences(connection: sa.Connection) -> Sequence[Any]:
    """What the tables in code and in the database differ in."""
    return list(compare_metadata(MigrationContext.configure(connection), load_tables()))


async def work(bus: Bus, service: str) -> None:
    """What becomes of NUMBER Invocations, each third repeated by an Attempt that came back."""
    for number in range(NUMBER):
        changes = [(Change.REQUESTED, 0), (Change.STARTED, 1), (Change.SUCCEEDED, 1)]
        if number % 3 == 0:
            changes += [(Change.STARTED, 2), (Change.DEAD, 2)]
        for change, attempt in changes:
            record = InvocationChanged(
                invocation_id=InvocationId(f"{service}-{number}"),
                service=ServiceName(service),
                change=change,
                attempt=attempt,
                at=NOW + timedelta(seconds=number),
            )
            await bus.log.append(changed_subject(change), record, key=service, message_id=record.message_id())


async def account(engine: AsyncEngine, service: str) -> Account | None:
    """The Service's account."""
    accounts = (await InvocationQueries(engine, Changes()).books(service)).accounts
    return accounts[0] if accounts else None


async def until_done(engine: AsyncEngine, service: str) -> None:
    """Wait until all is folded."""
    async with asyncio.timeout(60):
        while True:
            found = await account(engine, service)
            if found is not None and found.succeeded >= NUMBER:
                return
            await asyncio.sleep(0.05)


def projector(bus: Bus, engine: AsyncEngine, apply: Any = fold_invocations) -> Projector[InvocationChanged]:
    """One replica's."""
    projection = Projection(name="invocations", subject=CHANGED, apply=apply)
    return Projector(projection, bus_log=bus.log, engine=engine, metrics=Metrics())


async def test_the_migrations_make_the_tables_of_the_code(engine: AsyncEngine, postgresql: str) -> None:
    async with open_database(postgresql) as other:
        await asyncio.gather(upgrade(engine), upgrade(other))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_replicas_on_one_database_count_each_record_once(bus: Bus, engine: AsyncEngine, postgresql: str) -> None:
    async with open_database(postgresql) as other:
        running = [asyncio.create_task(projector(bus, it).run()) for it in (engine, other)]
        await work(bus, "shared")
        await until_done(engine, "shared")
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert await account(engine, "shared") == Account(service="shared", requested=NUMBER, succeeded=NUMBER)


async def test_replicas_with_their_own_databases_agree(
    bus: Bus, engine: AsyncEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await work(bus, "apart")
    path = tmp_path_factory.mktemp("sqlite") / "gateway.db"
    async with open_database(f"sqlite+aiosqlite:///{path}") as other:
        await upgrade(other)
        await asyncio.gather(projector(bus, engine).catch_up(), projector(bus, other).catch_up())
        left, right = InvocationQueries(engine, Changes()), InvocationQueries(other, Changes())
        for number in range(0, NUMBER, 37):
            assert await left.get(f"apart-{number}") == await right.get(f"apart-{number}")
        assert await account(engine, "apart") == await account(other, "apart")


async def test_a_connection_killed_in_the_middle_of_a_batch_loses_and_repeats_nothing(
    bus: Bus, engine: AsyncEngine
) -> None:
    batches = 0

    async def dies(connection: AsyncConnection, records: Sequence[Record[InvocationChanged]]) -> None:
        nonlocal batches
        batches += 1
        await fold_invocations(connection, records)
        if batches == 2:  # the server sees what it would see of a killed process
            await connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    await work(bus, "killed")
    running = asyncio.create_task(projector(bus, engine, dies).run())
    await until_done(engine, "killed")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert batches > 2
    assert await account(engine, "killed") == Account(service="killed", requested=NUMBER, succeeded=NUMBER)


async def test_a_projector_goes_on_after_the_bus_was_killed(bus: Bus, engine: AsyncEngine, nats: Running) -> None:
    running = asyncio.create_task(projector(bus, engine).run())
    await work(bus, "before")
    await until_done(engine, "before")
    nats.kill()
    nats.start()
    await work(bus, "after")
    await until_done(engine, "after")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for service in ("before", "after"):
        assert await account(engine, service) == Account(service=service, requested=NUMBER, succeeded=NUMBER)
