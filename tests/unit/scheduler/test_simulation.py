"""Planning over time, in a simulated cluster."""

from __future__ import annotations

import random
from statistics import median

from tests.unit.scheduler.planned import GIB, needs
from tests.unit.scheduler.simulation import Arrival, Simulation
from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.snapshot import Pool

SMALL, BIG = needs("small", "bob"), needs("big", "ada")
FOUR_CORES = Pool(name="local", cpu_millicores=4000, memory_bytes=64 * GIB)


def waits_of_small(*, behind: int) -> list[float]:
    simulation = Simulation(FOUR_CORES, [SMALL, BIG], tick=0.1)
    arrivals = [Arrival(0.0, BIG.service, 1.0) for _ in range(behind)]
    arrivals += [Arrival(3.0 + 4 * n, SMALL.service, 1.0) for n in range(8)]
    simulation.run(arrivals, until=40.0)
    return simulation.waits["bob"]


def test_a_small_owner_waits_for_one_attempt_behind_the_backlog_of_another() -> None:
    idle, behind = waits_of_small(behind=0), waits_of_small(behind=5_000)

    assert len(behind) == 8
    assert median(behind) <= 2 * median(idle) + 1.0 + 0.4  # one Attempt, and a start: no warm Worker is kept for it


def test_a_burst_keeps_the_cluster_busy() -> None:
    chance = random.Random(7)
    services = [needs(f"s{n}", f"owner-{n % 7}", cpu=chance.choice([250, 500, 1000])) for n in range(60)]
    simulation = Simulation(
        Pool(name="local", cpu_millicores=40_000, memory_bytes=640 * GIB, nodes=10), services, tick=0.2
    )
    arrivals = [Arrival(0.0, ServiceName(each.service), chance.uniform(1, 4)) for each in services for _ in range(30)]

    simulation.run(arrivals, until=20.0)

    assert simulation.busy_millicore_seconds / (40_000 * 20.0) > 0.75
