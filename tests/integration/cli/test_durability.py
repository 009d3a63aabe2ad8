"""`durability: power` on a real server: it starts, writes to disk before it acknowledges, and its bus works."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.servers import nats_server
from tidemill.platform.servers import NatsServer
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import EventId
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.settings import BusSettings, Durability

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("sync_always", [True, False])
async def test_a_server_syncs_as_its_durability_says(tmp_path: Path, sync_always: bool) -> None:
    durability = Durability.POWER if sync_always else Durability.PROCESS
    with nats_server(tmp_path, sync_always=sync_always) as running:
        assert isinstance(running.server, NatsServer)
        settings = BusSettings(url=running.server.url, durability=durability)
        async with open_bus(settings, name="test") as bus:
            await ensure_streams(bus)
            event = EventReceived(id=EventId("1"), source="/test", type="t", time=datetime.now(UTC))
            assert await bus.log.append(RECEIVED, event, key="a", message_id=event.id) == 1
        url = running.server.ready_url.replace("/healthz", "/jsz")
        async with httpx.AsyncClient(trust_env=False) as client:
            config = (await client.get(url)).json()["config"]
        assert bool(config.get("sync_always")) is sync_always
