"""Shares that are filled many at a time are those that granting one by one gives, in the same order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.scheduler.planned import needs
from tidemill_scheduler.domain.demands import AT_ONCE, HOLDS, NEVER, Demand, Owner
from tidemill_scheduler.domain.filling import fill
from tidemill_scheduler.domain.snapshot import NO_LIMIT, Pool, Quota

NAMES = ["ada", "bob", "eve"]
S = timedelta(seconds=1)


def one_by_one(
    demands: Sequence[Demand], pools: Sequence[Pool], quotas: Mapping[str, Quota], weights: Mapping[str, float]
) -> list[int]:
    """The definition: whoever has least is looked at next; whose Worker does not fit is out."""
    totals = sum(pool.cpu_millicores for pool in pools), sum(pool.memory_bytes for pool in pools)
    room = [[pool.cpu_millicores, pool.memory_bytes] for pool in pools]
    share = {each.index: max(each.cpu / totals[0], each.memory / totals[1]) for each in demands}
    waiting = {name: [each for each in demands if each.needs.owner == name and each.wanted] for name in NAMES}
    owners = {name: Owner(found, quotas.get(name, NO_LIMIT), 1.0) for name, found in waiting.items() if found}
    order: list[int] = []

    def rank_of_owner(name: str) -> tuple[object, ...]:
        owner = owners[name]
        level = max(owner.cpu / totals[0], owner.memory / totals[1]) / weights.get(name, 1.0)
        return level, *((0, AT_ONCE, AT_ONCE) if owner.cpu else owner.standing), name

    def rank(demand: Demand) -> tuple[object, ...]:
        first = (0, AT_ONCE, AT_ONCE) if demand.granted else (demand.rank, demand.since, demand.served)
        return -demand.needs.priority, demand.granted * share[demand.index], *first, demand.index

    while names := [name for name in owners if waiting[name]]:
        name = min(names, key=rank_of_owner)
        owner, demand = owners[name], min(waiting[name], key=rank)
        fits = owner.workers_left > 0 and demand.cpu <= owner.cpu_left and demand.memory <= owner.memory_left
        chosen = next(
            (
                (pool, left)
                for pool, left in zip(pools, room, strict=True)
                if fits
                and pool.holds(demand.cpu, demand.memory)
                and demand.cpu + pool.beside_cpu_millicores <= left[0]
                and demand.memory + pool.beside_memory_bytes <= left[1]
            ),
            None,
        )
        if chosen is not None:
            pool, left = chosen
            left[0] -= demand.cpu + pool.beside_cpu_millicores
            left[1] -= demand.memory + pool.beside_memory_bytes
            owner.take(demand.cpu, demand.memory, 1)
            demand.granted += 1
            order.append(demand.index)
        if chosen is None or demand.granted == demand.wanted:
            waiting[name].remove(demand)
    return order


@st.composite
def wishes(draw: st.DrawFn) -> list[Demand]:
    found = []
    for index in range(draw(st.integers(1, 8))):
        owner, priority = draw(st.sampled_from(NAMES)), draw(st.sampled_from([0, 0, 5]))
        cpu, memory = draw(st.sampled_from([1, 2, 3, 7])), draw(st.sampled_from([1, 2, 5, 9]))
        demand = Demand(needs(f"s{index}", owner, cpu=cpu, memory=memory, priority=priority), index)
        demand.wanted = draw(st.sampled_from([0, 1, 1, 2, 5, 40]))
        demand.rank, demand.since = draw(
            st.sampled_from([(0, -9 * S), (0, -3 * S), (1, AT_ONCE), (2, 3 * S), (3, AT_ONCE)])
        )
        demand.held, demand.held_since = draw(st.sampled_from([(None, AT_ONCE), (0, -4 * S), (2, S)]))
        demand.served = draw(st.sampled_from([NEVER, -S]))
        found.append(demand)
    return found


LIMITS = st.sampled_from([None, 0, 3, 10, 30])
QUOTAS = st.builds(lambda c, m, w: Quota(cpu_millicores=c, memory_bytes=m, workers=w), LIMITS, LIMITS, LIMITS)
POOLS = st.builds(
    lambda cpu, memory, nodes, beside: Pool(
        name="local",
        cpu_millicores=cpu * nodes,
        memory_bytes=memory * nodes,
        nodes=nodes,
        beside_cpu_millicores=beside,
        beside_memory_bytes=2 * beside,
    ),
    st.sampled_from([5, 12, 50, 500]),
    st.sampled_from([7, 12, 50, 500]),
    st.sampled_from([1, 1, 3]),
    st.sampled_from([0, 1]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    wishes(),
    st.lists(POOLS, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(NAMES), QUOTAS),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.5, 2.0, 3.0])),
)
def test_grants_are_those_of_granting_one_by_one(
    demands: list[Demand], pools: list[Pool], quotas: dict[str, Quota], weights: dict[str, float]
) -> None:
    expected = one_by_one([copy(each) for each in demands], pools, quotas, weights)

    order = fill(demands, pools, quotas=quotas, default_quota=NO_LIMIT, weights=weights)

    assert [demand.index for demand in order] == expected
    assert [demand.granted for demand in demands] == [expected.count(demand.index) for demand in demands]


@pytest.mark.parametrize("seed", range(30))
def test_crowds_that_fill_the_pool_are_granted_one_by_one_too(seed: int) -> None:
    chance = random.Random(seed)
    demands = []
    for index in range(chance.randint(1, 20)):
        owner, priority = chance.choice(NAMES), chance.choice([0, 0, 0, 5])
        cpu, memory = chance.choice([1, 2, 3, 7]), chance.choice([1, 2, 5, 9])
        demands.append(Demand(needs(f"s{index}", owner, cpu=cpu, memory=memory, priority=priority), index))
        demands[-1].wanted = chance.choice([1, 2, 5, 40, 200])
    cpu = chance.choice([50, 200, 500])
    memory = chance.choice([cpu, 2 * cpu])
    pools = [Pool(name="local", cpu_millicores=cpu, memory_bytes=memory, beside_cpu_millicores=chance.choice([0, 1]))]
    quotas = {
        name: Quota(cpu_millicores=chance.choice([20, 60]), memory_bytes=chance.choice([None, 80]))
        for name in NAMES
        if chance.random() < 0.4
    }
    expected = one_by_one([copy(each) for each in demands], pools, quotas, {})

    order = fill(demands, pools, quotas=quotas, default_quota=NO_LIMIT, weights={})

    assert [demand.index for demand in order] == expected


def test_what_the_pool_refuses_leaves_room_in_the_quota() -> None:
    first, large, small = (
        Demand(needs(name, owner, cpu=2, memory=memory), index)
        for index, (name, owner, memory) in enumerate([("first", "bob", 9), ("large", "ada", 9), ("small", "ada", 1)])
    )
    first.rank = HOLDS
    first.wanted = large.wanted = small.wanted = 1
    pools = [Pool(name="local", cpu_millicores=12, memory_bytes=12)]

    fill([first, large, small], pools, quotas={"ada": Quota(cpu_millicores=3)}, default_quota=NO_LIMIT, weights={})

    assert [first.granted, large.granted, small.granted] == [1, 0, 1]
