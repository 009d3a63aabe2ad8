"""Fair shares: weighted max-min between owners by progressive filling, then priority, then fair between Services.

The owner with the least weighted dominant share (the larger of its shares of CPU and memory) gets the next Worker,
until nothing more fits. Within an owner the highest priority goes first; among equals the Service that has least.
Where there are fewer places than Services, the first Worker of each goes by turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

from tidemill_scheduler.domain.snapshot import Needs, Pool, Quota

UNBOUNDED: Final = 1 << 62
HOLDS, WAITS, HELD, SERVED = range(4)
"""Rank among those that have nothing granted yet: has Workers since less than a turn; has had none for a turn; has had
Workers for a turn; has none, but had some less than a turn ago. So nobody loses a Worker before a turn is over, and
nobody who lost one takes another's before a turn has passed."""


class Demand:
    """One active Service while planning."""

    __slots__ = ("cpu", "granted", "held", "index", "memory", "needs", "rank", "served", "share", "since", "wanted")

    def __init__(self, needs: Needs, index: int) -> None:
        self.needs = needs
        self.index = index
        self.cpu = needs.cpu_millicores
        self.memory = needs.memory_bytes
        self.wanted = 0
        self.granted = 0
        self.rank = WAITS
        self.since = 0.0
        """Of those that hold Workers, who held longest goes first (of those over their turn: last)."""
        self.held: tuple[int, float] | None = None
        """Rank and since that its Workers give its owner, those that drain included; None: it has none."""
        self.served = 0.0
        """Then, who waits longest goes first."""
        self.share = 0.0
        """Dominant share of one Worker."""


_Tier = list[tuple[float, int, float, float, int, Demand]]
"""A heap of Services of one priority: level, rank, since, served, index (unique, so demands are never compared)."""


class _Owner:
    """What one owner has and may have, while filling."""

    __slots__ = ("cpu", "cpu_left", "memory", "memory_left", "standing", "tiers", "weight", "workers_left")

    def __init__(self, demands: Sequence[Demand], quota: Quota, weight: float) -> None:
        self.weight = weight
        self.cpu = self.memory = 0
        self.cpu_left = _bound(quota.cpu_millicores)
        self.memory_left = _bound(quota.memory_bytes)
        self.workers_left = _bound(quota.workers)
        self.standing = _standing(demands)
        self.tiers = _tiers(demands)


class _Left:
    """What is left of one Pool."""

    __slots__ = ("cpu", "memory", "node_cpu", "node_memory")

    def __init__(self, pool: Pool) -> None:
        self.cpu, self.memory = pool.cpu_millicores, pool.memory_bytes
        self.node_cpu, self.node_memory = self.cpu // pool.nodes, self.memory // pool.nodes


def fill(
    demands: Sequence[Demand],
    pools: Sequence[Pool],
    *,
    quotas: Mapping[str, Quota],
    default_quota: Quota,
    weights: Mapping[str, float],
) -> list[Demand]:
    """Set `granted` of each demand; return the demands in the order of the grants, once for each Worker."""
    total_cpu = max(1, sum(pool.cpu_millicores for pool in pools))
    total_memory = max(1, sum(pool.memory_bytes for pool in pools))
    by_owner: dict[str, list[Demand]] = {}
    for demand in demands:
        if demand.wanted > 0:
            demand.share = max(demand.cpu / total_cpu, demand.memory / total_memory)
            by_owner.setdefault(demand.needs.owner, []).append(demand)
    owners = [
        _Owner(by_owner[name], quotas.get(name, default_quota), weights.get(name, 1.0)) for name in sorted(by_owner)
    ]
    return _rounds(owners, [_Left(pool) for pool in pools], total_cpu, total_memory)


def _rounds(owners: Sequence[_Owner], room: Sequence[_Left], total_cpu: int, total_memory: int) -> list[Demand]:
    heap = [(0.0, *owner.standing, index) for index, owner in enumerate(owners)]
    heapify(heap)
    order: list[Demand] = []
    while heap:
        index = heap[0][4]
        owner = owners[index]
        demand = _grant(owner, room)
        if demand is None:
            heappop(heap)
            continue
        order.append(demand)
        by_cpu, by_memory = owner.cpu / total_cpu, owner.memory / total_memory
        level = (by_cpu if by_cpu > by_memory else by_memory) / owner.weight
        if not owner.tiers:
            heappop(heap)
        elif len(heap) > 1:
            heapreplace(heap, (level, 0, 0.0, 0.0, index))
    return order


def _grant(owner: _Owner, room: Sequence[_Left]) -> Demand | None:
    """One Worker more for this owner; None: nothing fits. What does not fit now never will, since room only shrinks.

    Runs once for each Worker of a full cluster, hence no calls but the heap's.
    """
    tiers = owner.tiers
    while tiers:
        tier = tiers[-1]
        demand = tier[0][5]
        cpu, memory = demand.cpu, demand.memory
        is_granted = False
        if owner.workers_left > 0 and cpu <= owner.cpu_left and memory <= owner.memory_left:
            for pool in room:
                if cpu <= pool.cpu and memory <= pool.memory and cpu <= pool.node_cpu and memory <= pool.node_memory:
                    pool.cpu -= cpu
                    pool.memory -= memory
                    is_granted = True
                    break
        if is_granted:
            owner.workers_left -= 1
            owner.cpu_left -= cpu
            owner.memory_left -= memory
            owner.cpu += cpu
            owner.memory += memory
            demand.granted += 1
        if not is_granted or demand.granted == demand.wanted:
            heappop(tier)
            if not tier:
                tiers.pop()
        elif len(tier) > 1:
            heapreplace(tier, (demand.granted * demand.share, 0, 0.0, 0.0, demand.index, demand))
        if is_granted:
            return demand
    return None


def _standing(demands: Sequence[Demand]) -> tuple[int, float, float]:
    """Rank, since and served of an owner, from its Services: by the Worker that it has longest, or had last."""
    served = max(demand.served for demand in demands)
    held = [demand.held for demand in demands if demand.held is not None]
    if held:
        rank = max(rank for rank, _ in held)
        return rank, min(since for each, since in held if each == rank), served
    return max(demand.rank for demand in demands), 0.0, served


def _tiers(demands: Sequence[Demand]) -> list[_Tier]:
    """Heaps by priority, the highest last."""
    by_priority: dict[int, _Tier] = {}
    for demand in demands:
        entry = (0.0, demand.rank, demand.since, demand.served, demand.index, demand)
        by_priority.setdefault(demand.needs.priority, []).append(entry)
    tiers = [by_priority[priority] for priority in sorted(by_priority)]
    for tier in tiers:
        heapify(tier)
    return tiers


def _bound(limit: int | None) -> int:
    return UNBOUNDED if limit is None else limit
