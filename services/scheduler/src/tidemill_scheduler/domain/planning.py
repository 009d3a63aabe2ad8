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

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final

from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.demands import HELD, HOLDS, SERVED, WAITS
from tidemill_scheduler.domain.filling import fill
from tidemill_scheduler.domain.ledger import Ledger
from tidemill_scheduler.domain.moves import Moves, Standing
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


def plan(snapshot: Snapshot) -> Plan:
    """What to do now."""
    ledger, stops = Ledger(snapshot), list[Stop]()
    standings = _standings(snapshot)
    _place_workers(snapshot, standings, ledger, stops)
    startable: dict[tuple[str, int, int], bool] = {}
    for standing in standings.values():
        _set_demand(standing, snapshot, startable)
    order = fill(
        [standing.demand for standing in standings.values()],
        snapshot.pools,
        quotas=snapshot.quotas,
        default_quota=snapshot.default_quota,
        weights=snapshot.weights,
    )
    _stop_idle(snapshot, standings, ledger, stops)
    moves = Moves(snapshot, list(standings.values()), ledger, stops)
    moves.shrink_to_limits()
    moves.start_all(order)
    if len(snapshot.pools) > 1:
        moves.start_spare()
    return Plan(starts=moves.starts, stops=stops, outlook=_outlook(standings))


def _standings(snapshot: Snapshot) -> dict[ServiceName, Standing]:
    """Active Services: those with backlog, Workers or a `min_scale`, by name so that equal rounds are equal."""
    active = {*snapshot.backlog, *snapshot.warm, *map(_SERVICE, snapshot.workers)}
    services = snapshot.services
    names = sorted(name for name in active if name in services)
    return {name: Standing(services[name], index) for index, name in enumerate(names)}


def _place_workers(
    snapshot: Snapshot, standings: dict[ServiceName, Standing], ledger: Ledger, stops: list[Stop]
) -> None:
    """Hand each Worker to its Service; those of no Service, or of an old revision, drain."""
    draining = WorkerState.DRAINING
    for worker in snapshot.workers:
        standing = standings.get(worker.service)
        if standing is not None and worker.state is not draining and worker.revision == standing.needs.revision:
            standing.kept.append(worker)
        elif worker.state is draining:
            if standing is not None:
                standing.leaving.append(worker)
        elif standing is None:
            ledger.drain(worker)
            stops.append(Stop(worker.id, worker.service, StopReason.REMOVED))
        else:
            standing.leaving.append(worker)
            ledger.drain(worker)
            stops.append(Stop(worker.id, worker.service, StopReason.OUTDATED))


_SERVICE: Final = attrgetter("service")
_STARTED_AT: Final = attrgetter("started_at")
_NOTHING: Final = Backlog()


def _set_demand(standing: Standing, snapshot: Snapshot, startable: dict[tuple[str, int, int], bool]) -> None:
    """What the Service asks for. `startable` remembers the answers of this round, which many Services share."""
    needs, demand = standing.needs, standing.demand
    backlog = snapshot.backlog.get(needs.service, _NOTHING)
    standing.by_backlog = -(-(backlog.interactive + backlog.batch) // (needs.slots * needs.batch))
    desired = max(standing.by_backlog, needs.min_scale)
    if needs.limit is not None and desired > needs.limit:
        desired = needs.limit
    standing.desired = demand.wanted = desired
    _set_rank(standing, snapshot)
    if desired == 0 and not (standing.by_backlog or needs.min_scale):
        return
    size = (needs.owner, demand.cpu, demand.memory)
    can_start = startable.get(size)
    if can_start is None:
        can_start = startable[size] = _can_ever_start(needs, snapshot)
    if desired == 0 or not can_start:
        demand.wanted, standing.blocked = 0, Blocked.TOO_LARGE
    elif needs.service in snapshot.failures:
        _hold_back(standing, snapshot)


def _can_ever_start(needs: Needs, snapshot: Snapshot) -> bool:
    cpu, memory = needs.cpu_millicores, needs.memory_bytes
    quota = snapshot.quotas.get(needs.owner, snapshot.default_quota)
    return (
        (quota.cpu_millicores is None or cpu <= quota.cpu_millicores)
        and (quota.memory_bytes is None or memory <= quota.memory_bytes)
        and (quota.workers is None or quota.workers > 0)
        and any(pool.holds(cpu, memory) for pool in snapshot.pools)
    )


def _hold_back(standing: Standing, snapshot: Snapshot) -> None:
    """A failing Service keeps what runs; after the delay it may try with one Worker more at a time."""
    waits = snapshot.now < snapshot.failures[standing.needs.service].next_try
    is_trying = any(worker.state is WorkerState.STARTING for worker in standing.kept)
    allowed = len(standing.kept) + (0 if waits or is_trying else 1)
    if waits and allowed < standing.desired:
        standing.blocked = Blocked.BACKOFF
    standing.demand.wanted = min(standing.demand.wanted, allowed)


def _set_rank(standing: Standing, snapshot: Snapshot) -> None:
    """Who goes first among equals, see `filling`."""
    demand = standing.demand
    served = snapshot.served.get(standing.needs.service)
    if served is not None:
        demand.served = served.timestamp()
        demand.rank = SERVED if snapshot.now - served < snapshot.turn else WAITS
    if standing.kept:
        demand.rank, demand.since = demand.held = _holding(standing.kept, snapshot)
    if standing.leaving:
        demand.held = _holding([*standing.kept, *standing.leaving], snapshot)


def _holding(workers: Sequence[Worker], snapshot: Snapshot) -> tuple[int, float]:
    since: datetime = min(map(_STARTED_AT, workers))
    is_over = snapshot.now - since >= snapshot.turn
    return (HELD, -since.timestamp()) if is_over else (HOLDS, since.timestamp())


def _stop_idle(snapshot: Snapshot, standings: dict[ServiceName, Standing], ledger: Ledger, stops: list[Stop]) -> None:
    """Scale down: what is idle for the timeout, and more than the Service asks for."""
    limit = snapshot.now - snapshot.idle_timeout
    for standing in standings.values():
        excess = len(standing.kept) - standing.desired
        if excess <= 0:
            continue
        ended = sorted(
            (worker for worker in standing.kept if _has_been_idle(worker, since=limit)),
            key=lambda worker: (worker.idle_since, worker.id),
        )[:excess]
        for worker in ended:
            standing.kept.remove(worker)
            standing.leaving.append(worker)
            ledger.drain(worker)
            stops.append(Stop(worker.id, worker.service, StopReason.IDLE))


def _has_been_idle(worker: Worker, *, since: datetime) -> bool:
    return worker.idle_since is not None and worker.idle_since <= since


def _outlook(standings: dict[ServiceName, Standing]) -> dict[ServiceName, Outlook]:
    return {
        name: Outlook(standing.desired, standing.demand.granted, standing.blocked)
        for name, standing in standings.items()
    }
