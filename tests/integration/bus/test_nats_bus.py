"""The bus on a real NATS server keeps the promises of the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import nats as nats_py
import pytest

from tests.contract.bus.log_suite import LiveAndStateContract, LogContract
from tests.contract.bus.queue_suite import WorkQueueContract
from tests.contract.bus.world import World
from tests.retries import storing_retries
from tests.servers import nats_server
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus
from tidemill_common.bus.addresses import shard_of, work_subject
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration

_LEASE = timedelta(seconds=2.7)
"""As short as waiting for its end costs, and longer than what a test does in one."""
_LATENESS = timedelta(milliseconds=400)
"""The server looks at schedules and lost leases a few times a second."""


def _reach(settings: BusSettings) -> AbstractAsyncContextManager[Bus]:
    return open_bus(settings, name="test")


async def _pass_time(by: timedelta) -> None:
    await asyncio.sleep((by + (_LATENESS if by >= timedelta(seconds=1) else timedelta())).total_seconds())


async def _inject(settings: BusSettings, service: ServiceName, lane: Lane, body: bytes) -> None:
    client = await nats_py.connect(settings.url)
    await client.jetstream().publish(work_subject(shard_of(service, settings.shards), service, lane), body)
    await client.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A bus on a server of this test's own."""
    with nats_server(tmp_path) as running:
        assert isinstance(running.server, NatsServer)
        settings = BusSettings(url=running.server.url, lease=_LEASE)
        async with open_bus(settings, name="test") as bus:
            await ensure_streams(bus)
            async with AsyncExitStack() as attendant:
                await attendant.enter_async_context(storing_retries(bus))
                yield World(
                    bus=bus,
                    settings=settings,
                    reach=_reach,
                    pass_time=_pass_time,
                    now=lambda: datetime.now(UTC),
                    quiet=0.25,
                    inject=partial(_inject, settings),
                    attendant=attendant,
                )


class TestNatsWorkQueue(WorkQueueContract):
    """`WorkQueue` on JetStream."""


class TestNatsLog(LogContract):
    """`Log` on JetStream."""


class TestNatsLiveAndState(LiveAndStateContract):
    """The rest on NATS."""
