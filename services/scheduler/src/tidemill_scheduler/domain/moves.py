"""Steps from the Workers there are towards fair shares: whom to start, whom to drain for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from tidemill_common.contracts.contract import WorkerId
from tidemill_scheduler.domain.demands import Demand
from tidemill_scheduler.domain.ledger import Account, Ledger
from tidemill_scheduler.domain.muster import Room
from tidemill_scheduler.domain.snapshot import Snapshot, Start, StartReason, Stop, StopReason, Worker
from tidemill_scheduler.domain.snapshot import WorkerState as State


class Moves:
    """Collects starts and stops; each decision is booked in the ledger at once."""

    def __init__(self, snapshot: Snapshot, demands: Sequence[Demand], ledger: Ledger, stops: list[Stop]) -> None:
        self.starts: list[Start] = []
        self._snapshot = snapshot
        self._demands = demands
        self._ledger = ledger
        self._stops = stops
        self._victims: _Victims | None = None
        self._pools = [(pool, ledger.pools[pool.name]) for pool in snapshot.pools]
        self._hopeless: set[tuple[str, int, int]] = set()

    def shrink_to_limits(self) -> None:
        """Drain what is above a capacity or a quota that was made smaller."""
        for name, account in self._ledger.pools.items():
            self._shrink(account, pool=name)
        for name, account in self._ledger.owners.items():
            self._shrink(account, owner=name)

    def start_all(self, order: Sequence[Demand]) -> None:
        """Start what is missing to the fair shares, in their order; keep room for what must wait."""
        missing = [demand for demand in self._demands if demand.granted > len(demand.kept)]
        if not missing or self._start_together(missing, order):
            return
        for demand in order:
            demand.seen += 1
            if demand.seen > len(demand.kept):
                self._start(demand)

    def _start_together(self, missing: Sequence[Demand], order: Sequence[Demand]) -> bool:
        """Start all that is missing, if there is room for all of it now; else nothing, and each is looked at alone.

        When the sum fits, each one fits in its turn: so this decides as one start after the other would.
        """
        if len(self._pools) != 1:
            return False
        pool, account = self._pools[0]
        by_owner, total = _missing_room(missing)
        if (
            self._ledger.starting[pool.name] < total.workers
            or not account.fits_now(total.cpu, total.memory, total.workers)
            or not all(
                self._ledger.owner(name).fits_now(room.cpu, room.memory, room.workers)
                for name, room in by_owner.items()
            )
            or any(demand.has_limit_below_share() for demand in missing)
        ):
            return False
        for name, room in by_owner.items():
            self._ledger.owner(name).take(room.cpu, room.memory, room.workers)
        account.take(total.cpu, total.memory, total.workers)
        self._ledger.starting[pool.name] -= total.workers
        self._start_in(pool.name, missing, order)
        return True

    def _start_in(self, pool: str, missing: Sequence[Demand], order: Sequence[Demand]) -> None:
        """Start what is missing; starts of one Service are one and the same value."""
        starts, seen, kept = self.starts, [0] * len(self._demands), [len(demand.kept) for demand in self._demands]
        backlog = {demand.index: Start(demand.needs.service, pool, StartReason.BACKLOG) for demand in missing}
        for demand in order:
            index = demand.index
            number = seen[index] = seen[index] + 1
            if number <= kept[index]:
                continue
            if number <= demand.by_backlog:
                starts.append(backlog[index])
            else:
                starts.append(Start(demand.needs.service, pool, StartReason.WARM))

    def start_spare(self) -> None:
        """Use room that no fair share can use (pieces of several Pools) for whoever can."""
        for demand in self._demands:
            missing = demand.wanted - max(demand.granted, len(demand.kept))
            for _ in range(missing):
                if not self._start_now(demand):
                    break

    def _start(self, demand: Demand) -> None:
        if not self._start_now(demand):
            self._wait(demand)

    def _start_now(self, demand: Demand) -> bool:
        cpu, memory = demand.cpu, demand.memory
        owner = self._ledger.owner(demand.needs.owner)
        if demand.has_limit_reached() or not owner.fits_now(cpu, memory):
            return False
        for pool, account in self._pools:
            if self._ledger.starting[pool.name] > 0 and account.fits_now(cpu, memory) and pool.holds(cpu, memory):
                owner.take(cpu, memory)
                account.take(cpu, memory)
                demand.started += 1
                self._ledger.starting[pool.name] -= 1
                reason = StartReason.BACKLOG if demand.seen <= demand.by_backlog else StartReason.WARM
                self.starts.append(Start(demand.needs.service, pool.name, reason))
                return True
        return False

    def _wait(self, demand: Demand) -> None:
        """Keep room for it that drains already, or drain more."""
        cpu, memory = demand.cpu, demand.memory
        owner = self._ledger.owner(demand.needs.owner)
        pool = self._pool_soon(owner, cpu, memory)
        if pool is None:
            pool = self._drain_for(demand, owner)
            if pool is not None and self._start_now(demand):  # what drains is room for somebody before it
                return
        if pool is not None:
            owner.take_soon(cpu, memory)
            self._ledger.pools[pool].take_soon(cpu, memory)

    def _pool_soon(self, owner: Account, cpu: int, memory: int) -> str | None:
        if not owner.fits_soon(cpu, memory):
            return None
        for pool in self._snapshot.pools:
            if self._ledger.pools[pool.name].fits_soon(cpu, memory) and pool.holds(cpu, memory):
                return pool.name
        return None

    def _drain_for(self, demand: Demand, owner: Account) -> str | None:
        """Drain Workers above their share until this one fits into a Pool; None, and nothing drained: it never does."""
        size = (demand.needs.owner, demand.cpu, demand.memory)
        if size in self._hopeless:
            return None
        for pool in self._snapshot.pools:
            if pool.holds(demand.cpu, demand.memory) and self._drain_in(pool.name, demand, owner):
                return pool.name
        self._hopeless.add(size)
        return None

    def _drain_in(self, pool: str, demand: Demand, owner: Account) -> bool:
        cpu, memory = demand.cpu, demand.memory
        victims, chosen = self._all_victims(), list[Worker]()
        accounts = ((owner, victims.of_owner(demand.needs.owner)), (self._ledger.pools[pool], victims.of_pool(pool)))
        for account, queue in accounts:
            for worker in queue:
                if account.fits_soon(cpu, memory):
                    break
                if victims.take(worker):
                    self._ledger.drain(worker)
                    chosen.append(worker)
        if owner.fits_soon(cpu, memory) and self._ledger.pools[pool].fits_soon(cpu, memory):
            self._stops.extend(Stop(worker.id, worker.service, _reason(worker)) for worker in chosen)
            return True
        for worker in chosen:
            victims.give_back(worker)
            self._ledger.keep(worker)
        return False

    def _shrink(self, account: Account, *, pool: str | None = None, owner: str | None = None) -> None:
        if not account.is_exceeded():
            return
        victims = self._all_victims()
        for worker in victims.of_pool(pool) if pool is not None else victims.of_owner(owner or ""):
            if not account.is_exceeded():
                break
            if victims.take(worker):
                self._ledger.drain(worker)
                self._stops.append(Stop(worker.id, worker.service, StopReason.OVER_LIMIT))

    def _all_victims(self) -> _Victims:
        if self._victims is None:
            self._victims = _Victims(self._demands)
        return self._victims


class _Victims:
    """Workers above their Service's fair share: idle ones first, then lower priority, then the youngest."""

    def __init__(self, demands: Sequence[Demand]) -> None:
        self._taken: set[WorkerId] = set()
        self._by_owner: dict[str, deque[Worker]] = {}
        self._by_pool: dict[str, deque[Worker]] = {}
        found = [
            (_cost(worker), demand.needs.priority, worker)
            for demand in demands
            if (excess := len(demand.kept) - demand.granted) > 0
            for worker in sorted(demand.kept, key=_order)[:excess]
        ]
        for _, _, worker in sorted(found, key=lambda item: (item[0], item[1], *_order(item[2]))):
            self._by_owner.setdefault(worker.owner, deque()).append(worker)
            self._by_pool.setdefault(worker.pool, deque()).append(worker)

    def of_owner(self, owner: str) -> Sequence[Worker]:
        return self._untaken(self._by_owner, owner)

    def of_pool(self, pool: str) -> Sequence[Worker]:
        return self._untaken(self._by_pool, pool)

    def take(self, worker: Worker) -> bool:
        """False: it is taken already."""
        if worker.id in self._taken:
            return False
        self._taken.add(worker.id)
        return True

    def give_back(self, worker: Worker) -> None:
        self._taken.discard(worker.id)

    def _untaken(self, queues: Mapping[str, deque[Worker]], name: str) -> Sequence[Worker]:
        queue = queues.get(name, _NONE)
        while queue and queue[0].id in self._taken:
            queue.popleft()
        return queue


_NONE: Final[deque[Worker]] = deque()


def _missing_room(missing: Sequence[Demand]) -> tuple[dict[str, Room], Room]:
    """What the missing Workers take: of each owner, and together."""
    by_owner, total = dict[str, Room](), Room()
    for demand in missing:
        room = by_owner.get(demand.needs.owner)
        if room is None:
            room = by_owner[demand.needs.owner] = Room()
        workers = demand.granted - len(demand.kept)
        room.add(workers * demand.cpu, workers * demand.memory, workers)
    for room in by_owner.values():
        total.add(room.cpu, room.memory, room.workers)
    return by_owner, total


def _cost(worker: Worker) -> int:
    """What draining it interrupts: nothing, a start, running Invocations."""
    if worker.idle_since is not None:
        return 0
    return 1 if worker.state is State.STARTING else 2


def _order(worker: Worker) -> tuple[int, float, str]:
    """Cheapest first: longest idle, then youngest."""
    if worker.idle_since is not None:
        return (0, worker.idle_since.timestamp(), worker.id)
    return (_cost(worker), -worker.started_at.timestamp(), worker.id)


def _reason(worker: Worker) -> StopReason:
    return StopReason.FAIR_SHARE if _cost(worker) == 2 else StopReason.PREEMPTED
