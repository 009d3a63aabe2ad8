"""Who asks for Workers: Services and their owners, while shares are filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidemill_scheduler.domain.snapshot import NO_LIMIT, Needs, Quota

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


class Owner:
    """What one owner wants, has and may have."""

    __slots__ = (
        "cpu",
        "cpu_left",
        "demands",
        "has_quota",
        "memory",
        "memory_left",
        "standing",
        "weight",
        "workers_left",
    )

    def __init__(self, demands: Sequence[Demand], quota: Quota, weight: float) -> None:
        self.demands = demands
        self.weight = weight
        self.cpu = self.memory = 0
        self.has_quota = quota != NO_LIMIT
        self.cpu_left = bound(quota.cpu_millicores)
        self.memory_left = bound(quota.memory_bytes)
        self.workers_left = bound(quota.workers)
        self.standing = _standing(demands)

    def take(self, cpu: int, memory: int, workers: int) -> None:
        """These were granted."""
        self.cpu += cpu
        self.memory += memory
        self.cpu_left -= cpu
        self.memory_left -= memory
        self.workers_left -= workers


def _standing(demands: Sequence[Demand]) -> tuple[int, float, float]:
    """Rank, since and served of an owner, from its Services: by the Worker that it has longest, or had last."""
    served = max(demand.served for demand in demands)
    held = [demand.held for demand in demands if demand.held is not None]
    if held:
        rank = max(rank for rank, _ in held)
        return rank, min(since for each, since in held if each == rank), served
    return max(demand.rank for demand in demands), 0.0, served


def bound(limit: int | None) -> int:
    """The limit as a number."""
    return UNBOUNDED if limit is None else limit
