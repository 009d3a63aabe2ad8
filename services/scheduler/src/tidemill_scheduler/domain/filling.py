"""Fair shares: weighted max-min between owners by progressive filling, then priority, then fair between Services.

The owner with the least weighted dominant share (the larger of its shares of CPU and memory) gets the next Worker,
until nothing more fits. Within an owner the highest priority goes first; among equals the Service that has least.
Among those that have the same, those that hold a Worker since less than a turn, then those that wait, longest first,
then the rest: so on a machine with fewer places than Services everybody gets a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

from tidemill_scheduler.domain.snapshot import Needs, Pool, Quota

UNBOUNDED: Final = 1 << 62
HOLDS, WAITS, HELD = 0, 1, 2
"""Rank among equals: has Workers since less than a turn; has none; has had them for a turn."""


class Demand:
    """One active Service while planning."""

    __slots__ = ("cpu", "granted", "index", "instant", "memory", "needs", "rank", "share", "wanted")

    def __init__(self, needs: Needs, index: int) -> None:
        self.needs = needs
        self.index = index
        self.cpu = needs.cpu_millicores
        self.memory = needs.memory_bytes
        self.wanted = 0
        self.granted = 0
        self.rank = WAITS
        self.instant = 0.0
        """Tells apart equals of one rank, smallest first."""
        self.share = 0.0
        """Dominant share of one Worker."""


_Tier = list[tuple[float, int, float, int, Demand]]
"""A heap of Services of one priority: level, rank, instant, index (unique, so demands are never compared)."""


class _Owner:
    """What one owner has and may have, while filling."""

    __slots__ = ("cpu", "cpu_left", "instant", "memory", "memory_left", "rank", "tiers", "weight", "workers_left")

    def __init__(self, demands: Sequence[Demand], quota: Quota, weight: float) -> None:
        self.weight = weight
        self.cpu = self.memory = 0
        self.cpu_left = _bound(quota.cpu_millicores)
        self.memory_left = _bound(quota.memory_bytes)
        self.workers_left = _bound(quota.workers)
        self.rank = min((demand.rank for demand in demands if demand.rank != WAITS), default=WAITS)
        self.instant = max(demand.instant for demand in demands)
        self.tiers = _tiers(demands)

    def may_take(self, cpu: int, memory: int) -> bool:
        return self.workers_left > 0 and cpu <= self.cpu_left and memory <= self.memory_left

    def take(self, cpu: int, memory: int) -> None:
        self.workers_left -= 1
        self.cpu_left -= cpu
        self.memory_left -= memory
        self.cpu += cpu
        self.memory += memory


class _Left:
    """What is left of one Pool."""

    __slots__ = ("cpu", "cpu_of_node", "memory", "memory_of_node")

    def __init__(self, pool: Pool) -> None:
        self.cpu, self.memory = pool.cpu_millicores, pool.memory_bytes
        self.cpu_of_node, self.memory_of_node = self.cpu // pool.nodes, self.memory // pool.nodes


def _take(pools: Sequence[_Left], cpu: int, memory: int) -> bool:
    """Take it from the first Pool that has it; False: none has."""
    for pool in pools:
        if cpu <= pool.cpu and memory <= pool.memory and cpu <= pool.cpu_of_node and memory <= pool.memory_of_node:
            pool.cpu -= cpu
            pool.memory -= memory
            return True
    return False


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
    heap = [(0.0, owner.rank, owner.instant, index) for index, owner in enumerate(owners)]
    heapify(heap)
    order = []
    while heap:
        _, rank, instant, index = heap[0]
        owner = owners[index]
        demand = _grant(owner, room)
        if demand is None:
            heappop(heap)
            continue
        order.append(demand)
        level = max(owner.cpu / total_cpu, owner.memory / total_memory) / owner.weight
        heapreplace(heap, (level, rank, instant, index))
    return order


def _grant(owner: _Owner, room: Sequence[_Left]) -> Demand | None:
    """One Worker more for this owner; None: nothing fits. What does not fit now never will, since room only shrinks."""
    while owner.tiers:
        tier = owner.tiers[-1]
        while tier:
            _, rank, instant, index, demand = tier[0]
            cpu, memory = demand.cpu, demand.memory
            if not owner.may_take(cpu, memory) or not _take(room, cpu, memory):
                heappop(tier)
                continue
            owner.take(cpu, memory)
            demand.granted += 1
            if demand.granted == demand.wanted:
                heappop(tier)
            else:
                heapreplace(tier, (demand.granted * demand.share, rank, instant, index, demand))
            return demand
        owner.tiers.pop()
    return None


def _tiers(demands: Sequence[Demand]) -> list[_Tier]:
    """Heaps by priority, the highest last."""
    by_priority: dict[int, _Tier] = {}
    for demand in demands:
        entry = (0.0, demand.rank, demand.instant, demand.index, demand)
        by_priority.setdefault(demand.needs.priority, []).append(entry)
    tiers = [by_priority[priority] for priority in sorted(by_priority)]
    for tier in tiers:
        heapify(tier)
    return tiers


def _bound(limit: int | None) -> int:
    return UNBOUNDED if limit is None else limit
