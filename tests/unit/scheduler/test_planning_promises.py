"""What planning promises of every world, as properties."""

from __future__ import annotations

import itertools
from dataclasses import replace
from operator import attrgetter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.scheduler.planned import (
    applied,
    count,
    is_within_limits,
    needs,
    pool,
    settled,
    snapshot,
    used,
    worker,
    worlds,
)
from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.planning import plan
from tidemill_scheduler.domain.snapshot import Snapshot, StopReason

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(worlds(most_pools=2))
def test_capacity_quotas_and_limits_are_never_exceeded(world: Snapshot) -> None:
    assert is_within_limits(applied(world, plan(world)))


@quick
@given(worlds(one_size=True))
def test_planning_again_after_applying_the_plan_changes_nothing(world: Snapshot) -> None:
    again = plan(applied(world, plan(world)))

    assert (again.starts, again.stops) == ([], [])


@quick
@given(worlds(most_pools=2))
def test_planning_settles(world: Snapshot) -> None:
    settled(world, plan)


@quick
@given(worlds())
def test_no_room_is_left_while_a_service_waits_that_fits(world: Snapshot) -> None:
    end = settled(world, plan)

    for service, outlook in plan(end).outlook.items():
        if count(end, service) < outlook.desired:
            assert not is_within_limits(_with(end, service))


@quick
@given(worlds())
def test_nobody_gets_more_than_desired(world: Snapshot) -> None:
    for service, outlook in plan(world).outlook.items():
        of, ready = world.services[service], world.backlog[service].ready
        assert outlook.target <= outlook.desired <= max(-(-ready // of.slots), of.min_scale)
        assert of.limit is None or outlook.desired <= of.limit


@quick
@given(worlds())
def test_only_workers_above_their_share_or_without_work_are_stopped(world: Snapshot) -> None:
    decided = plan(world)

    for service, stops in itertools.groupby(sorted(decided.stops, key=attrgetter("service")), attrgetter("service")):
        outlook, stopped = decided.outlook[service], len(list(stops))
        assert count(world, service) - stopped >= min(outlook.target, count(world, service))


@quick
@given(worlds())
def test_busy_workers_drain_only_when_somebody_waits(world: Snapshot) -> None:
    decided = plan(world)

    if any(stop.reason is StopReason.FAIR_SHARE for stop in decided.stops):
        assert any(
            count(world, service) + sum(start.service == service for start in decided.starts) < outlook.target
            for service, outlook in decided.outlook.items()
        )


@quick
@given(worlds(with_workers=False))
def test_shares_are_max_min_fair(world: Snapshot) -> None:
    """Nobody could have one Worker more at the cost of somebody who has more: within one Worker of each."""
    end = settled(world, plan)
    desired = {service: outlook.desired for service, outlook in plan(end).outlook.items()}

    for poor, rich in itertools.permutations({each.owner for each in end.services.values()}, 2):
        hungry = [
            each
            for each in end.services.values()
            if each.owner == poor and count(end, each.service) < desired.get(each.service, 0)
        ]
        for hungriest in hungry:
            given_up = _without_newest(end, rich, poor)
            if given_up is None:
                continue
            one_more = _with(given_up, hungriest.service)
            if is_within_limits(one_more):
                assert _level(one_more, poor) >= _level(given_up, rich) - 1e-9


@quick
@given(worlds(with_workers=False))
def test_within_an_owner_higher_priority_goes_first(world: Snapshot) -> None:
    """A Worker of lower priority never has the room that one of higher priority of the same owner waits for."""
    end = settled(world, plan)
    desired = {service: outlook.desired for service, outlook in plan(end).outlook.items()}

    for high, low in itertools.permutations(end.services.values(), 2):
        if high.owner != low.owner or high.priority <= low.priority or not count(end, low.service):
            continue
        if count(end, high.service) < desired.get(high.service, 0):
            victim = next(each.id for each in end.workers if each.service == low.service)
            without = replace(end, workers=[each for each in end.workers if each.id != victim])
            assert not is_within_limits(_with(without, high.service))


@quick
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_shares_equal_water_filling_within_one_worker(owners: list[tuple[int, float]], cores: int) -> None:
    services = [needs(f"s{n}", f"owner-{n}", memory=1) for n in range(len(owners))]
    decided = plan(
        snapshot(
            services,
            {each.service: wanted for each, (wanted, _) in zip(services, owners, strict=True)},
            pools=[pool(cores)],
            weights={each.owner: weight for each, (_, weight) in zip(services, owners, strict=True)},
        )
    )

    for each, (_, weight), water in zip(services, owners, water_levels(owners, cores), strict=True):
        outlook = decided.outlook.get(each.service)
        assert water - weight <= (outlook.target if outlook else 0) <= water + 1


def water_levels(owners: list[tuple[int, float]], amount: float) -> list[float]:
    """Weighted max-min shares of something that can be cut anywhere."""
    given_out = [0.0] * len(owners)
    thirsty = {index for index, (wanted, _) in enumerate(owners) if wanted > 0}
    while thirsty and amount > 1e-9:
        level = amount / sum(owners[index][1] for index in thirsty)
        step = min(level, *((owners[index][0] - given_out[index]) / owners[index][1] for index in thirsty))
        for index in thirsty:
            given_out[index] += step * owners[index][1]
            amount -= step * owners[index][1]
        thirsty = {index for index in thirsty if owners[index][0] - given_out[index] > 1e-9}
    return given_out


def _without_newest(world: Snapshot, rich: str, poor: str) -> Snapshot | None:
    victims = [each for each in world.workers if each.owner == rich]
    if not victims or _level(world, rich) <= _level(world, poor):
        return None
    return replace(world, workers=[each for each in world.workers if each.id != victims[-1].id])


def _with(world: Snapshot, service: str) -> Snapshot:
    of = world.services[ServiceName(service)]
    fresh = replace(worker(of, 99_999), pool=world.pools[0].name)
    return replace(world, workers=[*world.workers, fresh])


def _level(world: Snapshot, owner: str) -> float:
    cpu, memory, _ = used(world, owner=owner)
    total_cpu = sum(each.cpu_millicores for each in world.pools)
    total_memory = sum(each.memory_bytes for each in world.pools)
    return max(cpu / total_cpu, memory / total_memory) / world.weights.get(owner, 1.0)
