"""What to start and what to stop, from backlog, capacity and fairness. Pure: `plan(snapshot)`.

First the fair share of each Service is filled from nothing (`filling`); then the running Workers are moved towards it:

* Nothing is killed. Room is freed by draining: a Worker finishes its Invocations and ends.
* Idle Workers end after the idle timeout, and at once when somebody below his share needs the room.
* Busy Workers of Services above their share drain when somebody below his share waits for the room, and only as many
  as it takes. The freed room is kept for him, so nobody smaller takes it meanwhile.
* What drains still takes room: neither capacity nor a quota is ever exceeded.

Applying a plan and planning again at the same instant plans nothing, for Workers of one size. With mixed sizes who
waits may change places once more, within a turn; it always settles. The cost grows with active Services and Workers,
not with Invocations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_scheduler.domain.demands import HELD, HOLDS, SERVED, WAITS, Demand
from tidemill_scheduler.domain.filling import fill
from tidemill_scheduler.domain.ledger import Ledger
from tidemill_scheduler.domain.moves import Moves
from tidemill_scheduler.domain.muster import Muster
from tidemill_scheduler.domain.snapshot import (
    Blocked,
    Needs,
    Outlook,
    Plan,
    Snapshot,
    Stop,
    StopReason,
    Worker,
    WorkerState,
)

_NOTHING: Final = Backlog()
_STARTED_AT: Final = attrgetter("started_at")


def plan(snapshot: Snapshot) -> Plan:
    """What to do now."""
    muster = Muster(snapshot.workers)
    ledger = Ledger(snapshot, muster.rooms)
    demands = _demands(snapshot, muster.by_service)
    startable: dict[tuple[str, int, int], bool] = {}
    for demand in demands:
        _set_rank(demand, snapshot)
        _set_wanted(demand, snapshot, startable)
    stops = _stop_outdated(snapshot, demands, muster.by_service, ledger)
    order = fill(
        demands,
        snapshot.pools,
        quotas=snapshot.quotas,
        default_quota=snapshot.default_quota,
        weights=snapshot.weights,
    )
    _stop_idle(snapshot, demands, ledger, stops)
    moves = Moves(snapshot, demands, ledger, stops)
    moves.shrink_to_limits()
    moves.start_all(order)
    if len(snapshot.pools) > 1:
        moves.start_spare()
    outlook = {demand.needs.service: Outlook(demand.desired, demand.granted, demand.blocked) for demand in demands}
    return Plan(starts=moves.starts, stops=stops, outlook=outlook)


def _demands(snapshot: Snapshot, by_service: Mapping[ServiceName, Sequence[Worker]]) -> list[Demand]:
    """Active Services: those with backlog, Workers or a `min_scale`, by name so that equal rounds are equal."""
    services = snapshot.services
    active = dict.fromkeys((*snapshot.backlog, *snapshot.warm, *by_service))  # no set: a backlog is nearly in order
    names = sorted([name for name in active if name in services])
    return [Demand(services[name], index, by_service.get(name, ())) for index, name in enumerate(names)]


def _stop_outdated(
    snapshot: Snapshot, demands: Iterable[Demand], by_service: Mapping[ServiceName, Sequence[Worker]], ledger: Ledger
) -> list[Stop]:
    """Workers of an old revision, or of no Service, drain."""
    reasons: dict[WorkerId, StopReason] = {}
    for demand in demands:
        if demand.leaving:
            reasons |= dict.fromkeys(_busy(demand.leaving), StopReason.OUTDATED)
    for name in by_service.keys() - snapshot.services.keys():
        reasons |= dict.fromkeys(_busy(by_service[name]), StopReason.REMOVED)
    stopped = [worker for worker in snapshot.workers if worker.id in reasons] if reasons else []
    for worker in stopped:
        ledger.drain(worker)
    return [Stop(worker.id, worker.service, reasons[worker.id]) for worker in stopped]


def _busy(workers: Iterable[Worker]) -> list[WorkerId]:
    """Those that do not drain yet."""
    return [worker.id for worker in workers if worker.state is not WorkerState.DRAINING]


def _set_rank(demand: Demand, snapshot: Snapshot) -> None:
    """Who goes first among equals, see `filling`."""
    ended = snapshot.served.get(demand.needs.service)
    if ended is not None:
        demand.served = ended - snapshot.now
        demand.rank = SERVED if -demand.served < snapshot.turn else WAITS
    if demand.kept:
        _look_at_workers(demand, snapshot)


def _look_at_workers(demand: Demand, snapshot: Snapshot) -> None:
    """Who stays, and since when the Service has Workers: in one loop, since there may be many."""
    revision, draining, since = demand.needs.revision, WorkerState.DRAINING, demand.kept[0].started_at
    for worker in demand.kept:
        if worker.revision != revision or worker.state is draining:
            _part(demand, snapshot)
            return
        if worker.started_at < since:
            since = worker.started_at
    demand.rank, demand.since = demand.held, demand.held_since = _holding(since, snapshot)


def _part(demand: Demand, snapshot: Snapshot) -> None:
    """The same where some drain already or, being of an old revision, have to."""
    workers, stay, leave = demand.kept, list[Worker](), list[Worker]()
    for worker in workers:
        stays = worker.revision == demand.needs.revision and worker.state is not WorkerState.DRAINING
        (stay if stays else leave).append(worker)
    demand.kept, demand.leaving = stay, leave
    if stay:
        demand.rank, demand.since = _holding(min(map(_STARTED_AT, stay)), snapshot)
    demand.held, demand.held_since = _holding(min(map(_STARTED_AT, workers)), snapshot)


def _holding(since: datetime, snapshot: Snapshot) -> tuple[int, timedelta]:
    held = snapshot.now - since
    return (HELD, held) if held >= snapshot.turn else (HOLDS, -held)


def _set_wanted(demand: Demand, snapshot: Snapshot, startable: dict[tuple[str, int, int], bool]) -> None:
    """What the Service asks for. `startable` remembers the answers of this round, which many Services share."""
    needs = demand.needs
    backlog = snapshot.backlog.get(needs.service, _NOTHING)
    by_backlog = demand.by_backlog = -(-(backlog.interactive + backlog.batch) // (needs.slots * needs.batch))
    desired = by_backlog if by_backlog > needs.min_scale else needs.min_scale
    if desired == 0:
        return
    if needs.limit is not None and desired > needs.limit:
        desired = needs.limit
    demand.desired = demand.wanted = desired
    size = (needs.owner, demand.cpu, demand.memory)
    can_start = startable.get(size)
    if can_start is None:
        can_start = startable[size] = _can_ever_start(needs, snapshot)
    if desired == 0 or not can_start:
        demand.wanted, demand.blocked = 0, Blocked.TOO_LARGE
    elif needs.service in snapshot.failures:
        _hold_back(demand, snapshot)


def _can_ever_start(needs: Needs, snapshot: Snapshot) -> bool:
    cpu, memory = needs.cpu_millicores, needs.memory_bytes
    quota = snapshot.quotas.get(needs.owner, snapshot.default_quota)
    return (
        (quota.cpu_millicores is None or cpu <= quota.cpu_millicores)
        and (quota.memory_bytes is None or memory <= quota.memory_bytes)
        and (quota.workers is None or quota.workers > 0)
        and any(pool.holds(cpu, memory) for pool in snapshot.pools)
    )


def _hold_back(demand: Demand, snapshot: Snapshot) -> None:
    """A failing Service keeps what runs; after the delay it may try with one Worker more at a time."""
    waits = snapshot.now < snapshot.failures[demand.needs.service].next_try
    is_trying = any(worker.state is WorkerState.STARTING for worker in demand.kept)
    allowed = len(demand.kept) + (0 if waits or is_trying else 1)
    if waits and allowed < demand.desired:
        demand.blocked = Blocked.BACKOFF
    demand.wanted = min(demand.wanted, allowed)


def _stop_idle(snapshot: Snapshot, demands: Iterable[Demand], ledger: Ledger, stops: list[Stop]) -> None:
    """Scale down: what is idle for the timeout, and more than the Service asks for."""
    limit = snapshot.now - snapshot.idle_timeout
    for demand in demands:
        excess = len(demand.kept) - demand.desired
        if excess <= 0:
            continue
        idle = [worker for worker in demand.kept if _has_been_idle(worker, since=limit)]
        ended = sorted(idle, key=attrgetter("idle_since", "id"))[:excess]
        ids = {worker.id for worker in ended}
        demand.kept = [worker for worker in demand.kept if worker.id not in ids]
        demand.leaving = [*demand.leaving, *ended]
        for worker in ended:
            ledger.drain(worker)
            stops.append(Stop(worker.id, worker.service, StopReason.IDLE))


def _has_been_idle(worker: Worker, *, since: datetime) -> bool:
    return worker.idle_since is not None and worker.idle_since <= since
