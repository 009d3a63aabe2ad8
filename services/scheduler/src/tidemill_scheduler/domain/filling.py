"""Fair shares: weighted max-min between owners by progressive filling, then priority, then fair between Services.

The owner with the least weighted dominant share (the larger of its shares of CPU and memory) gets the next Worker,
until nothing more fits. Within an owner the highest priority goes first; among equals the Service that has least.
Where there are fewer places than Services, the first Worker of each goes by turns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from heapq import heapify, heappop, heapreplace
from itertools import islice

from tidemill_scheduler.domain.demands import AT_ONCE, Demand, Owner
from tidemill_scheduler.domain.merging import Line, lines, merge
from tidemill_scheduler.domain.snapshot import Pool, Quota

_Tier = list[tuple[float, int, timedelta, timedelta, int, Demand]]
"""A heap of Services of one priority: level, rank, since, served, index (unique, so demands are never compared)."""


class _Left:
    """What is left of one Pool."""

    __slots__ = ("beside_cpu", "beside_memory", "cpu", "memory", "node_cpu", "node_memory")

    def __init__(self, pool: Pool) -> None:
        self.cpu, self.memory = pool.cpu_millicores, pool.memory_bytes
        self.node_cpu, self.node_memory = self.cpu // pool.nodes, self.memory // pool.nodes
        self.beside_cpu, self.beside_memory = pool.beside_cpu_millicores, pool.beside_memory_bytes

    def fits(self, cpu: int, memory: int) -> bool:
        """Whether one Worker more does."""
        cpu += self.beside_cpu
        memory += self.beside_memory
        return cpu <= self.cpu and memory <= self.memory and cpu <= self.node_cpu and memory <= self.node_memory

    def take(self, cpu: int, memory: int, workers: int = 1) -> None:
        """So many Workers more, with their sums."""
        self.cpu -= cpu + workers * self.beside_cpu
        self.memory -= memory + workers * self.beside_memory


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
    by_owner, shares = defaultdict[str, list[Demand]](list), dict[tuple[int, int], float]()
    for demand in demands:
        if demand.wanted > 0:
            size = demand.cpu, demand.memory
            if size not in shares:
                shares[size] = max(demand.cpu / total_cpu, demand.memory / total_memory)
            demand.share = shares[size]
            by_owner[demand.needs.owner].append(demand)
    owners = [
        Owner(by_owner[name], quotas.get(name, default_quota), weights.get(name, 1.0)) for name in sorted(by_owner)
    ]
    seats, order = [_Seat(owner) for owner in owners], list[Demand]()
    room = [_Left(pool) for pool in pools]
    if pools and all(pools[0].holds(*size) for size in shares):
        ahead = lines(owners)
        order = merge(owners, ahead, pools[0], total_cpu=total_cpu, total_memory=total_memory)
        for demand in order:
            demand.granted += 1
        if all(line.is_all for line in ahead) and len(order) == sum([len(line.grants) for line in ahead]):
            return order
        for seat, line in zip(seats, ahead, strict=True):
            seat.follow(line, room[0])
    return order + _rounds(seats, room, shares, total_cpu, total_memory)


class _Seat:
    """An owner at the table: who it puts forward next."""

    __slots__ = ("ahead", "is_all", "owner", "tiers")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.ahead: Iterator[Demand] = iter(())
        """The next ones, as far as they are known."""
        self.is_all = False
        self.tiers: list[_Tier] | None = None
        """Those after them; None: not needed yet."""

    def follow(self, line: Line, pool: _Left) -> None:
        """Go on behind that part of the line which is granted, from this Pool."""
        cpu = memory = granted = 0
        for demand in self.owner.demands:
            cpu += demand.cpu * demand.granted
            memory += demand.memory * demand.granted
            granted += demand.granted
        self.owner.take(cpu, memory, granted)
        pool.take(cpu, memory, granted)
        if not line.has_refused:  # else what the Pool refuses from here on might leave room in the quota
            self.ahead = islice(line.grants, granted, None)
            self.is_all = line.is_all


def _rounds(
    seats: Sequence[_Seat],
    room: Sequence[_Left],
    sizes: Collection[tuple[int, int]],
    total_cpu: int,
    total_memory: int,
) -> list[Demand]:
    """The grants from here on, one by one."""
    heap = [
        (
            _level(seat.owner, total_cpu, total_memory),
            *((0, AT_ONCE, AT_ONCE) if seat.owner.cpu else seat.owner.standing),
            index,
        )
        for index, seat in enumerate(seats)
    ]
    heapify(heap)
    order: list[Demand] = []
    while heap:
        index = heap[0][4]
        demand = _grant(seats[index], room)
        if demand is not None:
            order.append(demand)
            heapreplace(heap, (_level(seats[index].owner, total_cpu, total_memory), 0, AT_ONCE, AT_ONCE, index))
        elif any(pool.fits(*size) for size in sizes for pool in room):
            heappop(heap)
        else:
            break
    return order


def _level(owner: Owner, total_cpu: int, total_memory: int) -> float:
    return max(owner.cpu / total_cpu, owner.memory / total_memory) / owner.weight


def _grant(seat: _Seat, room: Sequence[_Left]) -> Demand | None:
    """One Worker more for this owner; None: nothing fits. What does not fit now never will, since room only shrinks."""
    for demand in seat.ahead:
        if _take(seat.owner, demand, room):
            return demand
    if seat.tiers is None:
        seat.tiers = [] if seat.is_all else _tiers(seat.owner.demands)
    while seat.tiers:
        tier = seat.tiers[-1]
        demand = tier[0][5]
        is_granted = _take(seat.owner, demand, room)
        if not is_granted or demand.granted == demand.wanted:
            heappop(tier)
            if not tier:
                seat.tiers.pop()
        else:
            heapreplace(tier, _entry(demand))
        if is_granted:
            return demand
    return None


def _take(owner: Owner, demand: Demand, room: Sequence[_Left]) -> bool:
    cpu, memory = demand.cpu, demand.memory
    if owner.workers_left > 0 and cpu <= owner.cpu_left and memory <= owner.memory_left:
        for pool in room:
            if pool.fits(cpu, memory):
                pool.take(cpu, memory)
                owner.take(cpu, memory, 1)
                demand.granted += 1
                return True
    return False


def _tiers(demands: Sequence[Demand]) -> list[_Tier]:
    """Heaps by priority of those that want more, the highest last."""
    by_priority: dict[int, _Tier] = {}
    for demand in demands:
        if demand.granted < demand.wanted:
            by_priority.setdefault(demand.needs.priority, []).append(_entry(demand))
    tiers = [by_priority[priority] for priority in sorted(by_priority)]
    for tier in tiers:
        heapify(tier)
    return tiers


def _entry(demand: Demand) -> tuple[float, int, timedelta, timedelta, int, Demand]:
    if demand.granted:
        return demand.granted * demand.share, 0, AT_ONCE, AT_ONCE, demand.index, demand
    return 0.0, demand.rank, demand.since, demand.served, demand.index, demand
