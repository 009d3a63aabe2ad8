"""Who asks for Workers: Services and their owners, while shares are filled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Final

from tidemill_scheduler.domain.snapshot import NO_LIMIT, Blocked, Needs, Quota, Worker

UNBOUNDED: Final = 1 << 62
HOLDS, WAITS, HELD, SERVED = range(4)
"""Rank among those that have nothing granted yet: has Workers since less than a turn; has had none for a turn; has had
Workers for a turn; has none, but had some less than a turn ago. So nobody loses a Worker before a turn is over, and
nobody who lost one takes another's before a turn has passed."""
AT_ONCE: Final = timedelta()
NEVER: Final = timedelta.min
_RANK: Final = attrgetter("rank")
_SERVED: Final = attrgetter("served")


class Demand:
    """One active Service while planning: what it has, asks for and is granted."""

    __slots__ = (
        "blocked",
        "by_backlog",
        "cpu",
        "desired",
        "granted",
        "held",
        "held_since",
        "index",
        "kept",
        "leaving",
        "memory",
        "needs",
        "rank",
        "seen",
        "served",
        "share",
        "since",
        "started",
        "wanted",
    )

    def __init__(self, needs: Needs, index: int, workers: Sequence[Worker] = ()) -> None:
        self.needs = needs
        self.index = index
        self.cpu = needs.cpu_millicores
        self.memory = needs.memory_bytes
        self.kept = workers
        """Workers that stay, as far as is decided."""
        self.leaving: Sequence[Worker] = ()
        """Workers that drain."""
        self.by_backlog = 0
        """Workers that the backlog asks for."""
        self.desired = 0
        self.wanted = 0
        """Workers that it may be granted: those desired, unless something holds it back."""
        self.blocked: Blocked | None = None
        self.share = 0.0
        """Dominant share of one Worker."""
        self.rank = WAITS
        self.since = AT_ONCE
        """Of those that hold Workers, who held longest goes first (of those over their turn: last)."""
        self.held: int | None = None
        """Rank that its Workers give its owner, those that drain included; None: it has none."""
        self.held_since = AT_ONCE
        self.served = NEVER
        """When it last had a Worker that ended, from now on: then, who waits longest goes first."""
        self.granted = 0
        self.seen = 0
        self.started = 0

    def has_limit_reached(self) -> bool:
        """Whether one Worker more would be above the Service's own limit, those that drain included."""
        limit = self.needs.limit
        return limit is not None and len(self.kept) + len(self.leaving) + self.started >= limit

    def has_limit_below_share(self) -> bool:
        """Whether its fair share, with those that drain, would be above the Service's own limit."""
        limit = self.needs.limit
        return limit is not None and self.granted + len(self.leaving) > limit


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


def _standing(demands: Sequence[Demand]) -> tuple[int, timedelta, timedelta]:
    """Rank, since and served of an owner, from its Services: by the Worker that it has longest, or had last."""
    served = max(map(_SERVED, demands))
    held = [demand.held for demand in demands if demand.held is not None]
    if held:
        rank = max(held)
        return rank, min([demand.held_since for demand in demands if demand.held == rank]), served
    return max(map(_RANK, demands)), AT_ONCE, served


def bound(limit: int | None) -> int:
    """The limit as a number."""
    return UNBOUNDED if limit is None else limit
