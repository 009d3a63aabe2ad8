"""Snapshots for planning tests, and what it means to apply a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_scheduler.domain.failures import Failure
from tidemill_scheduler.domain.snapshot import Needs, Plan, Pool, Quota, Snapshot, Worker, WorkerState

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
GIB = 1024**3


def pool(cores: int = 4, gib: int = 64, name: str = "local", *, max_starting: int | None = None) -> Pool:
    return Pool(name=name, cpu_millicores=cores * 1000, memory_bytes=gib * GIB, max_starting=max_starting)


def needs(
    name: str,
    owner: str = "ada",
    *,
    cpu: int = 1000,
    memory: int = GIB,
    slots: int = 1,
    priority: int = 0,
    min_scale: int = 0,
    limit: int | None = None,
    revision: int = 1,
) -> Needs:
    return Needs(
        service=ServiceName(name),
        owner=owner,
        cpu_millicores=cpu,
        memory_bytes=memory,
        slots=slots,
        priority=priority,
        min_scale=min_scale,
        limit=limit,
        revision=revision,
    )


def worker(
    of: Needs,
    number: int = 0,
    *,
    idle: timedelta | None = None,
    age: timedelta = timedelta(seconds=5),
    state: WorkerState = WorkerState.RUNNING,
    in_pool: str = "local",
) -> Worker:
    return Worker(
        id=WorkerId(f"{of.service}-{number}"),
        service=of.service,
        owner=of.owner,
        pool=in_pool,
        revision=of.revision,
        cpu_millicores=of.cpu_millicores,
        memory_bytes=of.memory_bytes,
        started_at=NOW - age,
        state=state,
        idle_since=None if idle is None else NOW - idle,
    )


def snapshot(
    services: Sequence[Needs],
    backlog: Mapping[str, int],
    workers: Sequence[Worker] = (),
    *,
    pools: Sequence[Pool] | None = None,
    quotas: Mapping[str, Quota] | None = None,
    weights: Mapping[str, float] | None = None,
    failures: Mapping[ServiceName, Failure] | None = None,
    served: Mapping[ServiceName, datetime] | None = None,
) -> Snapshot:
    return Snapshot(
        now=NOW,
        pools=(pool(),) if pools is None else pools,
        services={each.service: each for each in services},
        backlog={ServiceName(name): Backlog(batch=ready) for name, ready in backlog.items()},
        workers=workers,
        warm=[each.service for each in services if each.min_scale],
        quotas=quotas or {},
        weights=weights or {},
        failures=failures or {},
        served=served or {},
    )


def applied(before: Snapshot, plan: Plan, *, drained: bool = False) -> Snapshot:
    """The world right after the plan; `drained`: and after everything that drains has gone."""
    stopped = {stop.worker for stop in plan.stops}
    workers = [replace(each, state=WorkerState.DRAINING) if each.id in stopped else each for each in before.workers]
    if drained:
        workers = [each for each in workers if each.state is not WorkerState.DRAINING]
    taken = {each.id for each in workers}
    for start in plan.starts:
        number = next(n for n in range(10_000) if f"{start.service}-{n}" not in taken)
        fresh = worker(
            before.services[start.service],
            number,
            age=timedelta(),
            in_pool=start.pool,
            state=WorkerState.RUNNING if drained else WorkerState.STARTING,
        )
        taken.add(fresh.id)
        workers.append(fresh)
    served = {**before.served, **{stop.service: before.now for stop in plan.stops}}
    return replace(before, workers=workers, served=served)


def settled(before: Snapshot, decide: object, *, rounds: int = 40) -> Snapshot:
    """The world when plans were applied, and drains awaited, until nothing changes."""
    assert callable(decide)
    world = before
    for _ in range(rounds):
        decided: Plan = decide(world)
        if not decided.starts and not decided.stops and applied(world, decided, drained=True) == world:
            return world
        world = applied(world, decided, drained=True)
    raise AssertionError("planning does not settle")


def used(world: Snapshot, *, owner: str | None = None, in_pool: str | None = None) -> tuple[int, int, int]:
    """(millicores, bytes, Workers) that are taken."""
    found = [
        each
        for each in world.workers
        if (owner is None or each.owner == owner) and (in_pool is None or each.pool == in_pool)
    ]
    return sum(each.cpu_millicores for each in found), sum(each.memory_bytes for each in found), len(found)


def count(world: Snapshot, service: str) -> int:
    return sum(each.service == service and each.state is not WorkerState.DRAINING for each in world.workers)


@st.composite
def worlds(draw: st.DrawFn, *, most_pools: int = 1, with_workers: bool = True, one_size: bool = False) -> Snapshot:
    """Any small world in which capacity and quotas hold."""
    owners = [f"owner-{n}" for n in range(draw(st.integers(1, 4)))]
    services = [
        needs(
            f"s{n}",
            draw(st.sampled_from(owners)),
            cpu=1000 if one_size else draw(st.sampled_from([100, 200, 500, 1000, 1500])),
            memory=GIB if one_size else draw(st.sampled_from([GIB // 4, GIB, 3 * GIB])),
            slots=draw(st.sampled_from([1, 1, 2, 4])),
            priority=draw(st.sampled_from([0, 0, 5])),
            min_scale=draw(st.sampled_from([0, 0, 0, 1, 2])),
            limit=draw(st.sampled_from([None, None, 1, 3])),
        )
        for n in range(draw(st.integers(1, 6)))
    ]
    beside = draw(st.sampled_from([0, 0, 100]))
    pools = [
        replace(
            pool(draw(st.integers(1, 6)), draw(st.integers(1, 16)), f"pool-{n}"),
            beside_cpu_millicores=beside,
            beside_memory_bytes=beside * 2**20,
        )
        for n in range(draw(st.integers(1, most_pools)))
    ]
    quotas = {
        owner: Quota(
            cpu_millicores=draw(st.sampled_from([None, 1500, 3000])), workers=draw(st.sampled_from([None, 2, 5]))
        )
        for owner in owners
        if draw(st.booleans())
    }
    backlog: dict[str, int] = {each.service: draw(st.integers(0, 20)) for each in services}
    world = snapshot(
        services,
        backlog,
        pools=pools,
        quotas=quotas,
        weights={owner: draw(st.sampled_from([1.0, 2.0])) for owner in owners},
    )
    return replace(world, workers=_workers(draw, world) if with_workers else ())


def _workers(draw: st.DrawFn, world: Snapshot) -> list[Worker]:
    found: list[Worker] = []
    for number in range(draw(st.integers(0, 12))):
        of = draw(st.sampled_from(sorted(world.services.values(), key=lambda each: each.service)))
        fresh = worker(
            of,
            number,
            idle=draw(st.sampled_from([None, None, timedelta(seconds=1), timedelta(seconds=120)])),
            age=draw(st.sampled_from([timedelta(seconds=1), timedelta(minutes=5)])) + timedelta(milliseconds=number),
            state=draw(st.sampled_from([WorkerState.RUNNING, WorkerState.RUNNING, WorkerState.DRAINING])),
            in_pool=draw(st.sampled_from([each.name for each in world.pools])),
        )
        if is_within_limits(replace(world, workers=[*found, fresh])):
            found.append(fresh)
    return found


def is_within_limits(world: Snapshot) -> bool:
    """Capacity, quotas and Services' own limits hold, with what drains counted."""
    for each in world.pools:
        cpu, memory, workers = used(world, in_pool=each.name)
        if (
            cpu + workers * each.beside_cpu_millicores > each.cpu_millicores
            or memory + workers * each.beside_memory_bytes > each.memory_bytes
        ):
            return False
    for owner, quota in world.quotas.items():
        for amount, most in zip(
            used(world, owner=owner), (quota.cpu_millicores, quota.memory_bytes, quota.workers), strict=True
        ):
            if most is not None and amount > most:
                return False
    return all(
        each.limit is None or sum(one.service == each.service for one in world.workers) <= each.limit
        for each in world.services.values()
    )
