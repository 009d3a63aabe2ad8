"""What a round asks its launcher, and what it tells the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.scheduler.planned import GIB, pool
from tests.unit.scheduler.rounds import Host
from tidemill_common.bus import Bus
from tidemill_common.bus.memory.server import open_memory
from tidemill_common.contracts.contract import EventId, ServiceName, WorkerId
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined, Synchronous
from tidemill_common.errors import UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_scheduler.activity import Activity
from tidemill_scheduler.catalogue import Catalogue
from tidemill_scheduler.domain.snapshot import WorkerState
from tidemill_scheduler.leadership import LeaderLease
from tidemill_scheduler.metrics import Metrics
from tidemill_scheduler.ports import Cause, RunningWorker, WorkerNotice, WorkerSpec
from tidemill_scheduler.scheduling import Policy, Scheduling
from tidemill_scheduler.status import REGISTER, StatusBoard

HERE = replace(pool(4), beside_cpu_millicores=100)
NAME = ServiceName("grey")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def spec(name: str) -> WorkerSpec:
    return WorkerSpec(
        id=WorkerId(name),
        service=NAME,
        owner="ada",
        pool=HERE.name,
        revision=1,
        slots=1,
        cpu_millicores=1000,
        memory_bytes=GIB,
    )


@dataclass
class World:
    bus: Bus
    host: Host
    catalogue: Catalogue
    scheduling: Scheduling

    async def status(self) -> dict[str, Any]:
        found = await self.bus.registers.get(REGISTER)
        assert found is not None
        view: dict[str, Any] = json.loads(found.value)
        return view


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One Service that wants two Workers at all times, and a leading scheduler whose status is always due."""
    catalogue, host = Catalogue(), Host(HERE)
    service = Service(
        name=NAME, image="i", script="s", owner="ada", cpu="1", memory="1Gi", synchronous=Synchronous(min_scale=2)
    )
    catalogue.define(ServiceDefined(name=NAME, revision=1, at=NOW, service=service))
    async with open_memory(BusSettings(url="memory://")) as bus:
        leader = LeaderLease(bus.registers, holder="h", lease=timedelta(hours=1), renew=timedelta(hours=1))
        await leader.step()
        instants = iter(range(0, 1_000_000, 100))
        scheduling = Scheduling(
            queue=bus.queue,
            launcher=host,
            catalogue=catalogue,
            leader=leader,
            status=StatusBoard(bus.registers, holder="h", pool=HERE, clock=lambda: float(next(instants))),
            policy=Policy(pool=HERE, start_timeout=timedelta()),
            metrics=Metrics(),
            bus_log=bus.log,
        )
        yield World(bus, host, catalogue, scheduling)


async def test_a_round_that_changes_nothing_looks_at_workers_once(world: World) -> None:
    await world.scheduling.round()
    assert len(world.host.running) == 2
    world.host.looks = 0

    await world.scheduling.round()

    assert (len(world.host.running), world.host.looks) == (2, 1)


async def test_a_silent_worker_is_ended_before_the_round_plans(world: World) -> None:
    await world.scheduling.round()
    silent = next(iter(world.host.running.values()))
    world.host.running[silent.spec.id] = replace(silent, is_pending=False)

    await world.scheduling.round()

    assert silent.spec.id not in world.host.running
    status = (await world.status())["services"][NAME]
    assert (status["starting"], status["blocked"]) == (1, "backoff")


async def test_a_worker_that_is_cut_off_but_heard_works_on_beside_the_one_that_replaces_it(world: World) -> None:
    await world.scheduling.round()
    lost = {name: replace(one, is_pending=False, is_cut_off=True) for name, one in world.host.running.items()}
    world.host.running |= lost
    for name in lost:
        world.scheduling._activity.report(name, 1, datetime.now(UTC))

    room, world.host.room = world.host.room, replace(world.host.room, cpu_millicores=0, memory_bytes=0)
    await world.scheduling.round()
    assert world.host.running.keys() == lost.keys()

    world.host.room = room
    await world.scheduling.round()
    assert len(world.host.running) == 4
    assert lost.keys() <= world.host.running.keys()


@pytest.mark.parametrize("is_back", [False, True])
async def test_what_waits_for_a_removed_service_is_dropped_unless_it_was_defined_anew(
    world: World, *, is_back: bool
) -> None:
    service = Service(name=NAME, image="i", script="s", owner="ada")
    removed = ServiceDefined(name=NAME, revision=2, at=NOW, service=None)
    world.catalogue.define(removed)  # the newest that it has heard
    for told in (removed, *([ServiceDefined(name=NAME, revision=3, at=NOW, service=service)] if is_back else [])):
        await world.bus.log.append(DEFINED, told, key=NAME)
    event = EventReceived(id=EventId("e"), source="/test", type="test", time=NOW)
    await world.bus.queue.submit(
        Invocation.of(event, service=NAME, owner="ada", revision=3, trigger="direct", now=datetime.now(UTC))
    )

    await world.scheduling.round()

    backlog = await world.bus.queue.backlog()
    assert (NAME in backlog and backlog[NAME].ready == 1) is is_back


async def test_the_status_shows_what_the_round_has_started(world: World) -> None:
    await world.scheduling.round()

    status = await world.status()
    assert status["services"][NAME] == {"running": 0, "starting": 2, "draining": 0, "desired": 2, "target": 2}
    (usage,) = status["pools"]
    assert (usage["workers"], usage["cpu_used"], usage["memory_used"]) == (2, 2 * (1000 + 100), 2 * GIB)


def test_a_view_of_a_worker_is_made_anew_when_something_has_changed() -> None:
    activity, worker = Activity(), RunningWorker(spec=spec("grey-1"), started_at=NOW)
    (first,) = activity.views([worker], NOW)
    (same,) = activity.views([worker], NOW + timedelta(seconds=1))
    assert same is first
    assert first.state is WorkerState.STARTING

    activity.report(worker.spec.id, 0, NOW)
    (idle,) = activity.views([worker], NOW)
    assert (idle.state, idle.idle_since) == (WorkerState.RUNNING, NOW)
    (draining,) = activity.views([replace(worker, is_draining=True)], NOW)
    assert draining.state is WorkerState.DRAINING
    (moved,) = activity.views([replace(worker, started_at=NOW + timedelta(hours=1))], NOW)
    assert moved.started_at == NOW + timedelta(hours=1)


async def test_a_notice_that_the_bus_does_not_take_costs_that_notice_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def notices() -> AsyncIterator[WorkerNotice]:
        for name in ("grey-1", "grey-2"):
            yield WorkerNotice(spec=spec(name), cause=Cause("OOMKilled"))
        await asyncio.Event().wait()

    async def publish(subject: str, _: bytes) -> None:
        told.append(subject)
        if len(told) == 1:
            raise UnavailableError("no connection to the bus")

    monkeypatch.setattr(world.host, "notices", notices)
    monkeypatch.setattr(world.bus.live, "publish", publish)
    following = asyncio.create_task(world.scheduling.follow_notices(world.bus.live))
    for _ in range(10):
        await asyncio.sleep(0)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert told == ["live.cause.grey.grey-1", "live.cause.grey.grey-2"]
