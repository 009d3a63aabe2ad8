"""A cluster in simulated time: nodes, Workers that take a while to start, Invocations that take a while to run.

Planning is the real one. A Worker lands on the first node that has room; one that finds none waits, as a pod would.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.unit.scheduler.planned import NOW
from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_scheduler.domain.planning import plan
from tidemill_scheduler.domain.snapshot import Needs, Plan, Pool, Snapshot, Worker, WorkerState


@dataclass(frozen=True, slots=True)
class Arrival:
    """One Invocation."""

    at: float
    service: ServiceName
    seconds: float


@dataclass(slots=True)
class _Runner:
    view: Worker
    node: int | None = None
    job: Arrival | None = None


@dataclass
class Simulation:
    """Runs arrivals on a Pool."""

    pool: Pool
    services: Sequence[Needs]
    start_seconds: float = 0.4
    tick: float = 0.05
    waits: dict[str, list[float]] = field(default_factory=dict)
    """By owner: seconds from arrival to start, of each Invocation that started."""
    busy_millicore_seconds: float = 0.0
    most_workers: int = 0

    def __post_init__(self) -> None:
        self._needs = {each.service: each for each in self.services}
        self._queues: dict[ServiceName, deque[Arrival]] = {each.service: deque() for each in self.services}
        self._running: dict[ServiceName, int] = {}
        self._waiting: set[ServiceName] = set()
        self._runners: dict[WorkerId, _Runner] = {}
        self._idle: dict[ServiceName, list[WorkerId]] = {}
        self._events: list[tuple[float, int, WorkerId]] = []
        self._served: dict[ServiceName, datetime] = {}
        self._free = [self.pool.cpu_millicores // self.pool.nodes] * self.pool.nodes
        self._hint = 0
        self._count = 0

    def run(self, arrivals: Sequence[Arrival], *, until: float) -> None:
        """Let time pass."""
        coming = deque(sorted(arrivals, key=lambda each: each.at))
        now = 0.0
        while now < until:
            while coming and coming[0].at <= now:
                self._arrive(coming.popleft())
            self._plan(now)
            now += self.tick
            while self._events and self._events[0][0] <= now:
                at, _, worker = heapq.heappop(self._events)
                self._become_free(at, self._runners[worker])

    def _arrive(self, arrival: Arrival) -> None:
        self._queues[arrival.service].append(arrival)
        self._waiting.add(arrival.service)
        if idle := self._idle.get(arrival.service):
            self._become_free(arrival.at, self._runners[idle.pop()])

    def _become_free(self, at: float, runner: _Runner) -> None:
        """It has started, or finished an Invocation: it takes the next, drains, or is idle."""
        service = runner.view.service
        if runner.job is not None:
            self._running[service] -= 1
            self.busy_millicore_seconds += runner.job.seconds * runner.view.cpu_millicores
            runner.job = None
        queue = self._queues[service]
        if runner.view.state is WorkerState.DRAINING:
            self._end(runner)
        elif queue:
            runner.job = queue.popleft()
            if not queue:
                self._waiting.discard(service)
            self._running[service] = self._running.get(service, 0) + 1
            self.waits.setdefault(runner.view.owner, []).append(at - runner.job.at)
            runner.view = replace(runner.view, state=WorkerState.RUNNING, idle_since=None)
            self._at(at + runner.job.seconds, runner)
        else:
            runner.view = replace(runner.view, state=WorkerState.RUNNING, idle_since=_instant(at))
            self._idle.setdefault(service, []).append(runner.view.id)

    def _plan(self, now: float) -> None:
        active = self._waiting | {service for service, count in self._running.items() if count}
        snapshot = Snapshot(
            now=_instant(now),
            pools=[self.pool],
            services=self._needs,
            backlog={
                service: Backlog(batch=len(self._queues[service]) + self._running.get(service, 0)) for service in active
            },
            workers=[runner.view for runner in self._runners.values()],
            served=self._served,
        )
        self._apply(plan(snapshot), now)
        self.most_workers = max(self.most_workers, len(self._runners))

    def _apply(self, decided: Plan, now: float) -> None:
        for stop in decided.stops:
            self._served[stop.service] = _instant(now)
            self._drain(self._runners[stop.worker])
        for start in decided.starts:
            self._start(self._needs[start.service], now)
        for runner in self._runners.values():
            if runner.node is None:
                self._place(runner, now)

    def _start(self, of: Needs, now: float) -> None:
        self._count += 1
        view = Worker(
            id=WorkerId(f"w{self._count}"),
            service=of.service,
            owner=of.owner,
            pool=self.pool.name,
            revision=of.revision,
            cpu_millicores=of.cpu_millicores,
            memory_bytes=of.memory_bytes,
            started_at=_instant(now),
            state=WorkerState.STARTING,
        )
        self._runners[view.id] = _Runner(view)

    def _place(self, runner: _Runner, now: float) -> None:
        """First fit, beginning where the last one was found."""
        cpu = runner.view.cpu_millicores
        for offset in range(len(self._free)):
            node = (self._hint + offset) % len(self._free)
            if self._free[node] >= cpu:
                self._free[node] -= cpu
                runner.node = self._hint = node
                self._at(now + self.start_seconds, runner)
                return

    def _drain(self, runner: _Runner) -> None:
        runner.view = replace(runner.view, state=WorkerState.DRAINING, idle_since=None)
        idle = self._idle.get(runner.view.service, [])
        if runner.view.id in idle:
            idle.remove(runner.view.id)
            self._end(runner)
        elif runner.node is None:
            self._end(runner)

    def _end(self, runner: _Runner) -> None:
        del self._runners[runner.view.id]
        if runner.node is not None:
            self._free[runner.node] += runner.view.cpu_millicores
            self._hint = runner.node

    def _at(self, when: float, runner: _Runner) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, runner.view.id))


def _instant(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
