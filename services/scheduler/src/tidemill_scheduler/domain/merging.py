"""Fair shares far from every limit: many grants at once.

Filling merges sequences that never fall, twice: the shares that a Service has before each of its Workers, and the level
that an owner has before each. While nothing is refused, sorting gives the very order that granting one by one gives.
How far to look ahead is an estimate; what is granted ends where the first sequence does that was not looked at to its
end, or where the Pool is full, so that the estimate decides about time alone. `filling` grants the rest one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from math import inf
from operator import attrgetter
from typing import Final

from tidemill_scheduler.domain.demands import Demand, Owner
from tidemill_scheduler.domain.snapshot import Pool

_RANK: Final = attrgetter("rank", "since", "served")


class Line:
    """An owner's next grants in their order, as if it was alone."""

    __slots__ = ("grants", "has_refused", "is_all")

    def __init__(self, owner: Owner, line: list[Demand], *, is_all: bool) -> None:
        self.grants = _within_quota(owner, line)
        self.has_refused = len(self.grants) < len(line)
        """The quota leaves some out, if all of these are granted."""
        self.is_all = is_all
        """Nothing comes after them."""


def lines(owners: Sequence[Owner]) -> list[Line]:
    """Of each owner about as much as it gets of the whole room."""
    return [_line(owner, amount) for owner, amount in zip(owners, _amounts(owners), strict=True)]


def merge(
    owners: Sequence[Owner], ahead: Sequence[Line], pool: Pool, *, total_cpu: int, total_memory: int
) -> list[Demand]:
    """The first grants of all owners in their order, as far as they fit into the empty Pool."""
    first, then, levels, reach = list[tuple[Owner, Demand]](), list[Demand](), list[float](), inf
    for owner, line in zip(owners, ahead, strict=True):
        if not line.grants and not line.is_all:
            return []
        after = _levels(line.grants, owner.weight, total_cpu, total_memory)
        first += [(owner, demand) for demand in line.grants[:1]]
        then += line.grants[1:]
        levels += after[:-1]
        if not line.is_all:
            reach = min(reach, after[-1])
    order = [demand for _, demand in sorted(first, key=lambda entry: entry[0].standing)]
    order += _sorted(then, levels, below=reach)
    return _within(order, pool)


def _amounts(owners: Sequence[Owner]) -> list[float]:
    """About how much each owner gets, in shares of a Worker."""
    wanted = [sum([demand.wanted * demand.share for demand in owner.demands]) for owner in owners]
    weights = [owner.weight for owner in owners]
    level = _water_level(1.0, [most / weight for most, weight in zip(wanted, weights, strict=True)], weights)
    return [min(most, level * weight) for most, weight in zip(wanted, weights, strict=True)]


def _line(owner: Owner, amount: float) -> Line:
    """Grants of about this share."""
    line, tiers = list[Demand](), defaultdict[int, list[Demand]](list)
    for demand in owner.demands:
        tiers[demand.needs.priority].append(demand)
    for priority in sorted(tiers, reverse=True):
        wants = [demand.wanted * demand.share for demand in tiers[priority]]
        level = _water_level(amount, wants, [1.0] * len(wants))
        grants, is_all = _merged(tiers[priority], level)
        line += grants
        if not is_all:
            return Line(owner, line, is_all=False)
        amount = max(0.0, amount - sum(wants))
    return Line(owner, line, is_all=True)


def _within_quota(owner: Owner, grants: list[Demand]) -> list[Demand]:
    """Without what the owner's quota refuses: what does not fit never will, since room only shrinks."""
    if not owner.has_quota:
        return grants
    cpu, memory, workers = owner.cpu_left, owner.memory_left, owner.workers_left
    found = list[Demand]()
    for demand in grants:
        if workers > 0 and demand.cpu <= cpu and demand.memory <= memory:
            cpu, memory, workers = cpu - demand.cpu, memory - demand.memory, workers - 1
            found.append(demand)
    return found


def _merged(tier: Sequence[Demand], level: float) -> tuple[list[Demand], bool]:
    """Grants of Services of one priority in their order, as far as all shares below some level are looked at."""
    then, shares, reach = list[Demand](), list[float](), inf
    for demand in tier:
        share, number = demand.share, demand.wanted
        if level < inf and number > (most := int(level / share) + 1):
            number, reach = most, min(reach, most * share)
        for granted in range(1, number):
            then.append(demand)
            shares.append(share * granted)
    return sorted(tier, key=_RANK) + _sorted(then, shares, below=reach), reach == inf


def _sorted(demands: Sequence[Demand], levels: Sequence[float], *, below: float) -> list[Demand]:
    """By level, the first of equals first."""
    order = sorted(range(len(levels)), key=levels.__getitem__)
    if below < inf:
        del order[bisect_left(order, below, key=levels.__getitem__) :]
    return [demands[index] for index in order]


def _levels(line: Sequence[Demand], weight: float, total_cpu: int, total_memory: int) -> list[float]:
    """The owner's level after each grant."""
    levels, cpu, memory = list[float](), 0, 0
    for demand in line:
        cpu += demand.cpu
        memory += demand.memory
        by_cpu, by_memory = cpu / total_cpu, memory / total_memory
        levels.append((by_cpu if by_cpu > by_memory else by_memory) / weight)
    return levels


def _within(order: list[Demand], pool: Pool) -> list[Demand]:
    """The beginning that takes no more than there is."""
    cpu, memory = pool.cpu_millicores, pool.memory_bytes
    beside_cpu, beside_memory = pool.beside_cpu_millicores, pool.beside_memory_bytes
    for number, demand in enumerate(order):
        cpu -= demand.cpu + beside_cpu
        memory -= demand.memory + beside_memory
        if cpu < 0 or memory < 0:
            return order[:number]
    return order


def _water_level(amount: float, limits: Sequence[float], rates: Sequence[float]) -> float:
    """The level up to which all together take this amount, each its rate up to its limit; infinite: more than all."""
    left, rate = amount, sum(rates)
    for limit, each in sorted(zip(limits, rates, strict=True)):
        if limit * rate >= left:
            return left / rate
        left -= limit * each
        rate -= each
    return inf
