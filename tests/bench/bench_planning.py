"""Planning: milliseconds a plan and a whole round for 10 000 Services; and a simulated cluster: utilisation, waits."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import structlog

from tests.unit.scheduler.planned import GIB, NOW, needs, worker
from tests.unit.scheduler.rounds import Host
from tests.unit.scheduler.simulation import Arrival, Simulation
from tidemill_common.bus import Backlog, WorkQueue
from tidemill_common.bus.memory.server import open_memory
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.settings import BusSettings
from tidemill_scheduler.catalogue import Catalogue
from tidemill_scheduler.domain.planning import plan
from tidemill_scheduler.domain.snapshot import Needs, Pool, Snapshot, Worker
from tidemill_scheduler.leadership import LeaderLease
from tidemill_scheduler.metrics import Metrics
from tidemill_scheduler.ports import RunningWorker, WorkerSpec
from tidemill_scheduler.scheduling import Policy, Scheduling
from tidemill_scheduler.status import StatusBoard

SERVICES, NODES, CORES = 10_000, 1_000, 16
CLUSTER = Pool(name="cluster", cpu_millicores=NODES * CORES * 1000, memory_bytes=NODES * 64 * GIB, nodes=NODES)


def row(name: str, value: str, goal: str) -> None:
    """One line of the table."""
    print(f"| {name} | {value} | {goal} |", flush=True)


def services(chance: random.Random) -> list[Needs]:
    """10 000 Services of 200 owners, of mixed sizes."""
    sizes, memories = (200, 500, 1000, 2000), (GIB // 4, GIB, 2 * GIB)
    return [
        needs(f"s{n:05}", f"owner-{n % 200:03}", cpu=chance.choice(sizes), memory=chance.choice(memories))
        for n in range(SERVICES)
    ]


def full_of(world: Snapshot) -> Snapshot:
    """The world when what the plan starts is running."""
    workers = [
        worker(world.services[start.service], number, in_pool=start.pool)
        for number, start in enumerate(plan(world).starts)
    ]
    return replace(world, workers=workers)


def planning_ms(snapshot: Snapshot) -> float:
    """Median of 21 plans."""
    times = []
    for _ in range(21):
        begun = time.perf_counter()
        plan(snapshot)
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def measure_planning() -> None:
    """A round in which all starts, one in which twice as much waits as fits, and one in which nothing changes."""
    chance = random.Random(1)
    defined = services(chance)

    def world(most: int) -> Snapshot:
        backlog = {each.service: Backlog(batch=chance.randint(1, most)) for each in defined}
        return Snapshot(now=NOW, pools=[CLUSTER], services={each.service: each for each in defined}, backlog=backlog)

    one, many = world(1), world(50)
    full = full_of(many)
    row("a plan, 10 000 Services with one Invocation each, 10 000 starts", f"{planning_ms(one):.0f} ms", "50 ms")
    row(
        f"a plan, 10 000 Services with 1-50 each, {len(full.workers)} Workers start",
        f"{planning_ms(many):.0f} ms",
        "50 ms",
    )
    row(f"a plan that changes nothing, {len(full.workers)} Workers run", f"{planning_ms(full):.0f} ms", "50 ms")
    row("a whole round of the same, without the launcher's listing", f"{asyncio.run(round_ms(full)):.0f} ms", "")


class StandingQueue:
    """A queue in which the same waits at all times."""

    def __init__(self, backlog: Mapping[ServiceName, Backlog]) -> None:
        self._backlog = backlog

    async def backlog(self) -> Mapping[ServiceName, Backlog]:
        """All of it."""
        return self._backlog


async def round_ms(world: Snapshot) -> float:
    """Median of 21 rounds of a scheduler that sees this world; the status is due in each."""
    catalogue, host = Catalogue(), Host(CLUSTER, {each.id: running(each) for each in world.workers})
    catalogue.services.update(world.services)
    instants, times = iter(range(0, 1_000_000, 2)), []
    async with open_memory(BusSettings(url="memory://")) as bus:
        leader = LeaderLease(bus.registers, holder="h", lease=timedelta(hours=1), renew=timedelta(hours=1))
        await leader.step()
        scheduling = Scheduling(
            queue=cast(WorkQueue, StandingQueue(world.backlog)),
            launcher=host,
            catalogue=catalogue,
            leader=leader,
            status=StatusBoard(bus.registers, holder="h", pool=CLUSTER, clock=lambda: float(next(instants))),
            policy=Policy(pool=CLUSTER, turn=timedelta(hours=1)),
            metrics=Metrics(),
            bus_log=bus.log,
        )
        for _ in range(21):
            begun = time.perf_counter()
            await scheduling.round()
            times.append((time.perf_counter() - begun) * 1e3)
    assert host.running.keys() == {each.id for each in world.workers}, "the round has changed something"
    return statistics.median(times)


def running(each: Worker) -> RunningWorker:
    """The Worker as its launcher sees it."""
    spec = WorkerSpec(
        id=each.id,
        service=each.service,
        owner=each.owner,
        pool=each.pool,
        revision=each.revision,
        slots=1,
        cpu_millicores=each.cpu_millicores,
        memory_bytes=each.memory_bytes,
    )
    return RunningWorker(spec=spec, started_at=datetime.now(UTC), is_adopted=True, is_pending=True)


def small_owner_median(*, behind: int) -> float:
    """Median wait of an owner who sends one Invocation of a second every 5 s, on 10 cores."""
    small, big = needs("small", "bob"), needs("big", "ada")
    pool = Pool(name="local", cpu_millicores=10_000, memory_bytes=64 * GIB)
    simulation = Simulation(pool, [small, big])
    arrivals = [Arrival(0.0, big.service, 1.0) for _ in range(behind)]
    arrivals += [Arrival(5.0 + 5 * n + 0.137 * n % 1, small.service, 1.0) for n in range(20)]
    simulation.run(arrivals, until=120.0)
    return statistics.median(simulation.waits["bob"])


def measure_fairness() -> None:
    """The small owner's wait, alone and behind 100 000 Invocations of another."""
    idle, behind = small_owner_median(behind=0), small_owner_median(behind=100_000)
    row("small owner's median wait, idle platform (cold start 0.4 s)", f"{idle:.2f} s", "")
    row("small owner's median wait behind 100 000 of another (1 s each)", f"{behind:.2f} s", f"{2 * idle + 1:.2f} s")


def measure_cluster() -> None:
    """10 000 Services burst on 1 000 nodes."""
    chance = random.Random(2)
    defined, seconds = services(chance), 60.0
    simulation = Simulation(CLUSTER, defined, tick=1.0)
    arrivals = [
        Arrival(at, each.service, chance.uniform(2, 10))
        for each in defined
        for at, share in ((0.0, 1.0), (20.0, 0.3))
        if chance.random() < share
        for _ in range(chance.randint(1, 30))
    ]
    begun = time.perf_counter()
    simulation.run(arrivals, until=seconds)
    took = time.perf_counter() - begun
    utilisation = simulation.busy_millicore_seconds / (CLUSTER.cpu_millicores * seconds)
    row(
        f"1 000 nodes, 10 000 Services, {len(arrivals)} Invocations in two bursts: CPU in use",
        f"{utilisation:.0%}",
        "",
    )
    print(f"\n{seconds:.0f} s simulated in {took:.0f} s; at most {simulation.most_workers} Workers", file=sys.stderr)


def main() -> None:
    """Print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    gc.set_threshold(50_000, 20, 50)  # as the scheduler has it
    print("| figure | measured | goal |\n|---|---|---|")
    measure_planning()
    measure_fairness()
    measure_cluster()


if __name__ == "__main__":
    main()
