"""Rounds: look at everything once, plan, act. Only while this process leads."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from tidemill_common.bus import Backlog, Live, Log, WorkQueue
from tidemill_common.bus.addresses import cause_subject
from tidemill_common.concurrently import each
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.definitions import is_removed
from tidemill_common.errors import TransientError
from tidemill_scheduler.activity import Activity, held_in
from tidemill_scheduler.catalogue import Catalogue
from tidemill_scheduler.domain.failures import STABLE_AFTER, Failure, failed, failure_reason
from tidemill_scheduler.domain.planning import plan
from tidemill_scheduler.domain.snapshot import NO_LIMIT, Plan, Pool, Quota, Snapshot, Start, Stop, Worker, WorkerState
from tidemill_scheduler.leadership import LeaderLease
from tidemill_scheduler.losses import Losses, is_blameless
from tidemill_scheduler.metrics import Metrics
from tidemill_scheduler.ports import Launcher, RunningWorker, Tender, WorkerEnded, WorkerSpec
from tidemill_scheduler.status import StatusBoard
from tidemill_scheduler.troubles import stuck, troubles

log = structlog.get_logger()
WORK: Final = "live.work.*"
REPORTS: Final = "live.worker.*.*"
STARTS_AT_ONCE: Final = 32
"""In a cluster each waits for a write of the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator decided."""

    pool: Pool
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    default_quota: Quota = NO_LIMIT
    weights: Mapping[str, float] = field(default_factory=dict)
    idle_timeout: timedelta = timedelta(seconds=60)
    turn: timedelta = timedelta(seconds=30)
    start_timeout: timedelta = timedelta(seconds=60)
    plan_interval: timedelta = timedelta(seconds=1)
    min_gap: timedelta = timedelta(milliseconds=50)
    max_stuck: int = 1
    """Workers of one Service that may wait for room that is not there."""


class Scheduling:
    """Keeps the right Workers running."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        launcher: Launcher,
        catalogue: Catalogue,
        leader: LeaderLease,
        status: StatusBoard,
        policy: Policy,
        metrics: Metrics,
        bus_log: Log,
    ) -> None:
        self._queue = queue
        self._bus_log = bus_log
        self._losses = Losses(bus_log)
        self._launcher = launcher
        self._catalogue = catalogue
        self._leader = leader
        self._status = status
        self._policy = policy
        self._metrics = metrics
        self._activity = Activity()
        self._failures: dict[ServiceName, Failure] = {}
        self._served: dict[ServiceName, datetime] = {}
        self._woken = asyncio.Event()
        self._leads = False
        self._heard_since = datetime.now(UTC)
        """Since when the bus answers without interruption."""

    def wake(self) -> None:
        """Plan soon."""
        self._woken.set()

    def tasks(self, live: Live) -> dict[str, Coroutine[object, object, None]]:
        """All that runs as long as the scheduler, by name."""
        return {
            "rounds": self.run(),
            "work": self.follow_work(live),
            "reports": self.follow_reports(live),
            "exits": self.follow_exits(),
            "notices": self.follow_notices(live),
        }

    async def run(self) -> None:
        """Plan on every wake-up and every `plan_interval`, for as long as this runs."""
        while True:
            if await self._lead():
                await self._try_round()
            await asyncio.sleep(self._policy.min_gap.total_seconds())
            await self._wait()

    async def follow_work(self, live: Live) -> None:
        """Wake up when somebody submits."""
        async with live.subscribe(WORK) as messages:
            async for _ in messages:
                self.wake()

    async def follow_reports(self, live: Live) -> None:
        """Take what Workers say of themselves."""
        async with live.subscribe(REPORTS) as messages:
            async for subject, body in messages:
                self._report(subject, body)

    async def follow_exits(self) -> None:
        """Take note of each Worker's end."""
        async for ended in self._launcher.exits():
            held = self._activity.held(ended.spec.id)
            self.note_end(ended, datetime.now(UTC))
            self.wake()
            await self._losses.tell(ended, held, datetime.now(UTC))

    async def follow_notices(self, live: Live) -> None:
        """Tell Workers why their user code's container ended, and remember it for the Service."""
        async for notice in self._launcher.notices():
            body = json.dumps({"reason": notice.cause.reason, "message": notice.cause.message}).encode()
            try:
                await live.publish(cause_subject(notice.spec.service, notice.spec.id), body)
            except TransientError as error:  # the Worker ends the Attempt without the reason
                log.warning("worker not told why its container ended", worker=notice.spec.id, error=str(error))

    async def round(self) -> None:
        """One look, one plan, and what follows from it.

        Raises:
            TransientError: The bus does not answer; nothing was done.
        """
        backlog = await self._queue.backlog()
        now = datetime.now(UTC)
        workers = await self._workers(now)
        snapshot = self._snapshot(workers, backlog, now)
        with self._metrics.planning.time():
            decided = plan(snapshot)
        await self._apply(decided, now)
        await self._purge_removed(backlog)
        if isinstance(self._launcher, Tender):
            await self._launcher.tend(self._catalogue.definitions, self._catalogue.removed)
        if self._status.is_due():
            if decided.starts or decided.stops:
                workers = self._launcher.workers()
            await self._show(decided, workers, snapshot.pools[0])

    def note_end(self, ended: WorkerEnded, now: datetime) -> None:
        """Learn from a Worker's end whether its Service can run."""
        service = ended.spec.service
        was_ready = self._activity.has_reported(ended.spec.id)
        self._activity.forget(ended.spec.id)
        self._served[service] = now
        self._metrics.ended.labels("asked" if ended.was_draining else "by-itself").inc()
        if ended.was_draining:
            return
        reason = failure_reason(ended.exit_code, signal=ended.signal, was_ready=was_ready, last_line=ended.last_line)
        if ended.cause is not None:
            reason = None if was_ready and is_blameless(ended.cause) else str(ended.cause)
        if reason is not None:
            self._fail(service, reason, now)
        elif was_ready:
            self._failures.pop(service, None)

    async def _lead(self) -> bool:
        """Whether we lead; adopts the Workers that are there when that begins."""
        held = self._leader.is_held
        if held and not self._leads:
            await self._launcher.adopt()
        self._leads = held
        self._metrics.leads.set(held)
        return held

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._policy.plan_interval.total_seconds()):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _try_round(self) -> None:
        try:
            await self.round()
        except TransientError as error:
            log.warning("round left out", error=str(error))
            self._heard_since = datetime.now(UTC)

    def _report(self, subject: str, body: bytes) -> None:
        try:
            report = json.loads(body)
            busy, held = int(report["busy"]), held_in(report)
        except (ValueError, KeyError, TypeError):
            log.warning("worker report cannot be read", subject=subject)
            return
        if self._activity.report(WorkerId(subject.rpartition(".")[2]), busy, datetime.now(UTC), held):
            self.wake()

    async def _workers(self, now: datetime) -> Sequence[RunningWorker]:
        """All there are, once those are given up that are there in name only."""
        workers = self._launcher.workers()
        if await self._kill_silent(workers, now):
            workers = self._launcher.workers()
        if await self._give_up_lost(workers, now):
            workers = self._launcher.workers()
        return workers

    def _snapshot(
        self, running: Sequence[RunningWorker], backlog: Mapping[ServiceName, Backlog], now: datetime
    ) -> Snapshot:
        # those that are cut off take no room of what the launcher has, and are not to be counted on
        workers = self._activity.views([one for one in running if not one.is_cut_off], now)
        self._forget_recovered(workers, now)
        policy = self._policy
        return Snapshot(
            now=now,
            pools=(self._launcher.pool() or policy.pool,),
            services=self._catalogue.services,
            backlog=backlog,
            workers=workers,
            warm=tuple(self._catalogue.warm),
            quotas=policy.quotas,
            default_quota=policy.default_quota,
            weights=policy.weights,
            failures=self._failures | stuck(running, most=policy.max_stuck, now=now),
            served=self._served,
            idle_timeout=policy.idle_timeout,
            turn=policy.turn,
        )

    def _forget_recovered(self, workers: Iterable[Worker], now: datetime) -> None:
        if not self._failures:
            return
        for worker in workers:
            failure = self._failures.get(worker.service)
            if (
                failure is not None
                and worker.started_at > failure.at
                and now - worker.started_at >= STABLE_AFTER
                and self._activity.has_reported(worker.id)
            ):
                del self._failures[worker.service]

    async def _kill_silent(self, workers: Iterable[RunningWorker], now: datetime) -> bool:
        """End Workers that never said that they are there: they have no work, and hold room. Whether there are any."""
        timeout, has_killed = self._policy.start_timeout, False
        for running in workers:
            if self._activity.has_reported(running.spec.id) or running.is_draining or running.is_pending:
                continue
            if now - max(running.started_at, self._heard_since) >= timeout:
                has_killed = True
                self._fail(running.spec.service, f"Worker did not report within {timeout.total_seconds():g} s", now)
                await self._launcher.kill(running.spec.id)
        return has_killed

    async def _give_up_lost(self, workers: Iterable[RunningWorker], now: datetime) -> bool:
        """End Workers that nobody sees and nobody hears: their Invocations are told so at once. Whether any are."""
        lost = self._activity.lost(workers, listening_since=self._heard_since, now=now)
        for running in lost:
            log.warning("worker lost", worker=running.spec.id, reason=str(running.trouble))
            await self._launcher.kill(running.spec.id)
        return bool(lost)

    def _fail(self, service: ServiceName, reason: str, now: datetime) -> None:
        failure = self._failures[service] = failed(self._failures.get(service), reason=reason, now=now)
        self._metrics.failed.inc()
        log.warning("worker failed", service=service, reason=reason, failures=failure.count)

    async def _apply(self, decided: Plan, now: datetime) -> None:
        for stop in decided.stops:
            if self._leader.is_held:
                await self._stop(stop, now)
        await each(decided.starts, lambda start: self._start(start, now), concurrency=STARTS_AT_ONCE)

    async def _stop(self, stop: Stop, now: datetime) -> None:
        log.info("worker asked to drain", worker=stop.worker, service=stop.service, reason=stop.reason.value)
        self._served[stop.service] = now
        self._metrics.stops.labels(stop.reason.value).inc()
        await self._launcher.stop(stop.worker)

    async def _start(self, start: Start, now: datetime) -> None:
        needs = self._catalogue.services.get(start.service)
        if needs is None or not self._leader.is_held:  # removed, or lost, a moment ago
            return
        spec = WorkerSpec(
            id=WorkerId(f"{start.service}-{secrets.token_hex(4)}"),
            service=start.service,
            owner=needs.owner,
            pool=start.pool,
            revision=needs.revision,
            slots=needs.slots,
            cpu_millicores=needs.cpu_millicores,
            memory_bytes=needs.memory_bytes,
        )
        log.info("worker started", worker=spec.id, service=spec.service, reason=start.reason.value)
        self._metrics.starts.labels(start.reason.value).inc()
        try:
            await self._launcher.start(spec, self._catalogue.definitions[start.service])
        except TransientError as error:
            self._fail(start.service, str(error), now)

    async def _purge_removed(self, backlog: Mapping[ServiceName, Backlog]) -> None:
        for service in self._catalogue.removed & backlog.keys():
            if not await is_removed(self._bus_log, service):
                continue
            dropped = await self._queue.purge(service)
            log.info("backlog of removed service dropped", service=service, invocations=dropped)

    async def _show(self, decided: Plan, running: Sequence[RunningWorker], pool: Pool) -> None:
        workers = self._activity.views(running, datetime.now(UTC))
        self._metrics.workers.set(sum(worker.state is not WorkerState.DRAINING for worker in workers))
        await self._status.show(
            decided.outlook,
            workers,
            self._failures,
            self._catalogue.invalid,
            troubles=troubles(running),
            pool=pool,
        )
