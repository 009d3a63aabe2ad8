"""Routed Events a second: one routing process, its own nats-server. Budget: 5,000/s.

Run: `python -m tests.bench.bench_routing [events]`; add `--profile` for where the time goes.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.servers import nats_server
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import RECEIVED, ArtifactRef
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined, StorageIO
from tidemill_common.settings import BusSettings
from tidemill_storage_bridge.__main__ import loop_factory
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.domain.objects import object_created
from tidemill_storage_bridge.metrics import ROUTED
from tidemill_storage_bridge.routing import Router, RoutingRules

BUDGET = 5000
SERVICES = 1000


async def main(count: int, *, profile: bool) -> float:
    """Routed Events a second."""
    with tempfile.TemporaryDirectory() as scratch, nats_server(Path(scratch)) as running:
        assert isinstance(running.server, NatsServer)
        async with open_bus(BusSettings(url=running.server.url), name="bench") as bus:
            await ensure_streams(bus)
            await _define(bus)
            await _fill(bus, count)
            return await _route(bus, count, cProfile.Profile() if profile else None)


async def _define(bus: Bus) -> None:
    now = datetime.now(UTC)
    for number in range(SERVICES):
        name = ServiceName(f"s{number}")
        service = Service(
            name=name, image="i", script="true", input=(StorageIO(path=f"bucket{number % 50}/in{number}"),)
        )
        await bus.log.append(DEFINED, ServiceDefined(name=name, revision=1, at=now, service=service), key=name)


async def _fill(bus: Bus, count: int) -> None:
    now = datetime.now(UTC)
    for start in range(0, count, 500):
        async with asyncio.TaskGroup() as filling:
            for number in range(start, min(start + 500, count)):
                service = number % SERVICES
                path = f"bucket{service % 50}/in{service}/run/{number}.tif"
                artifact = ArtifactRef(path=path, etag="5d41402abc4b2a76b9719d911017c592", size=5)
                event = object_created("/sources/bench", artifact, version=str(number), time=now)
                filling.create_task(bus.log.append(RECEIVED, event, key=artifact.bucket, message_id=event.id))


async def _route(bus: Bus, count: int, profile: cProfile.Profile | None) -> float:
    definitions, stopping = Definitions(bus.log), asyncio.Event()
    await definitions.load()
    router = Router(bus, definitions, RoutingRules(system_bucket="tidemill"))
    routed = ROUTED._value.get  # the counter's only reading without rendering all of them
    if profile is not None:
        profile.enable()
    before, began = routed(), time.perf_counter()
    task = asyncio.create_task(router.run(stopping))
    while routed() - before < count:
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    stopping.set()
    await task
    waiting = sum(backlog.ready for backlog in (await bus.queue.backlog()).values())
    assert waiting == count, f"{waiting} Invocations wait, {count} Events were routed"
    return count / took


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        rate = runner.run(main(numbers[0] if numbers else 20_000, profile="--profile" in sys.argv))
    print(f"routed {rate:,.0f} Events/s in one process ({rate / BUDGET:.1f} of the budget)")
