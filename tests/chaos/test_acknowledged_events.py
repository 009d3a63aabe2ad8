"""An Event that was answered with 2xx is in EVENTS, whenever the bridge is killed; and the check can fail."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.servers import Running, nats_server
from tidemill.platform.servers import free_port
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.event import RECEIVED
from tidemill_common.settings import BusSettings

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

EVENTS: Final = int(os.environ.get("TIDEMILL_CHAOS_FILES", "500"))
KILLS: Final = 5
TOKEN: Final = "token-of-the-test"


def notification(number: int) -> bytes:
    """An S3 notification about one object."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-21T03:04:05.678Z",
        "s3": {
            "bucket": {"name": "acknowledged"},
            "object": {"key": f"in/{number}", "size": 1, "eTag": "aa", "sequencer": f"{number:016X}"},
        },
    }
    return json.dumps({"Records": [record]}).encode()


class Bridge:
    """One bridge process with HTTP alone."""

    def __init__(self, module: str, directory: Path, bus_url: str) -> None:
        self.port = free_port()
        tokens = directory / "tokens.json"
        tokens.write_text(json.dumps({TOKEN: "lab"}))
        self._module, self._log = module, directory / "bridge.log"
        self._environment = {
            **os.environ,
            "TIDEMILL_BRIDGE_PORT": str(self.port),
            "TIDEMILL_BRIDGE_TOKENS_FILE": str(tokens),
            "TIDEMILL_BRIDGE_SECRETS_DIR": str(directory),
            "TIDEMILL_BRIDGE_BUS__URL": bus_url,
        }

    def start(self) -> None:
        """Start it; requests are refused until it is ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


class Sender:
    """Sends notifications until each is acknowledged."""

    def __init__(self, bridge: Bridge) -> None:
        self.acknowledged: set[str] = set()
        self._bridge = bridge

    async def send(self, client: httpx.AsyncClient, numbers: list[int]) -> None:
        """Each of these, one after the other."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self._bridge.port}/events"
        for number in numbers:
            while not await self._is_taken(client.post(url, content=notification(number), headers=headers)):
                await asyncio.sleep(0.05)
            self.acknowledged.add(f"in/{number}")
            await asyncio.sleep(0.04)

    async def _is_taken(self, request: Coroutine[Any, Any, httpx.Response]) -> bool:
        try:
            return (await request).is_success
        except httpx.HTTPError:
            return False


@asynccontextmanager
async def killed_again_and_again(bridge: Bridge, sender: Sender, *, times: int) -> AsyncIterator[None]:
    """Kill and restart the bridge at random points of the body, each time after it has acknowledged something.

    Points, not instants: where it takes seconds to start it would be killed before it had taken anything.
    """
    chance, part = random.Random(7), EVENTS / (times + 1)
    points = [part * (number + chance.uniform(0, 0.5)) for number in range(1, times + 1)]

    async def kills() -> None:
        for point in points:
            while len(sender.acknowledged) < point:
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.uniform(0, 0.05))
            bridge.kill()
            bridge.start()

    bridge.start()
    killing = asyncio.create_task(kills())
    try:
        yield
        await killing
    finally:
        killing.cancel()
        bridge.kill()


async def lost(module: str, directory: Path, nats: Running) -> set[str]:
    """Keys that were acknowledged by a bridge that is killed again and again, and are not in EVENTS."""
    settings = BusSettings(url=nats.server.url)  # type: ignore[union-attr]  # the fixture's server is NATS
    bridge = Bridge(module, directory, settings.url)
    parts = [list(range(EVENTS))[part::4] for part in range(4)]
    sender = Sender(bridge)
    async with open_bus(settings, name="test") as bus:
        async with killed_again_and_again(bridge, sender, times=KILLS), httpx.AsyncClient(timeout=5) as client:
            await asyncio.gather(*(sender.send(client, part) for part in parts))
        async with bus.log.read(RECEIVED, key="acknowledged") as records:
            recorded = {record.body.subject async for record in records}
    assert len(sender.acknowledged) == EVENTS
    return sender.acknowledged - recorded


async def test_no_acknowledged_event_is_lost_although_the_bridge_is_killed(tmp_path: Path, nats: Running) -> None:
    assert await lost("tidemill_storage_bridge", tmp_path, nats) == set()


async def test_the_check_fails_for_a_bridge_that_acknowledges_before_it_appends(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:  # of its own: EVENTS of the other test must not be there
        assert await lost("tests.chaos.hasty_bridge", tmp_path, server) != set()
