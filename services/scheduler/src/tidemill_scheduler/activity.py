"""What Workers say of themselves: whether they have started, and since when they are idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tidemill_common.contracts.contract import InvocationId, WorkerId
from tidemill_scheduler.domain.snapshot import Worker, WorkerState
from tidemill_scheduler.ports import RunningWorker

START_GRACE: Final = timedelta(seconds=15)
"""After this a silent Worker no longer counts as starting, so it does not hold up the starts of others."""

LOST_AFTER: Final = timedelta(seconds=16)
"""Three reports that did not come."""


@dataclass(frozen=True, slots=True)
class Held:
    """One Invocation that a Worker says it runs."""

    id: InvocationId
    attempt: int
    revision: int = 0


@dataclass(frozen=True, slots=True)
class _Said:
    busy: int
    idle_since: datetime | None
    held: tuple[Held, ...] = ()


def held_in(report: Mapping[str, Any]) -> tuple[Held, ...]:
    """The Invocations in a Worker's report; none in one that does not name them.

    Raises:
        KeyError, TypeError, ValueError: It names them in another way.
    """
    return tuple(
        Held(InvocationId(str(one["id"])), int(one["attempt"]), int(one.get("revision", 0)))
        for one in report.get("invocations", ())
    )


class Activity:
    """The newest report of each Worker."""

    def __init__(self) -> None:
        self._said: dict[WorkerId, _Said] = {}
        self._heard_at: dict[WorkerId, datetime] = {}
        self._views: dict[WorkerId, Worker] = {}

    def report(self, worker: WorkerId, busy: int, now: datetime, held: tuple[Held, ...] = ()) -> bool:
        """Take a report; True: it says something new."""
        before = self._said.get(worker)
        self._heard_at[worker] = now
        if busy > 0:
            self._said[worker] = _Said(busy, None, held)
        elif before is None or before.idle_since is None:
            self._said[worker] = _Said(0, now)
        return before is None or (before.busy > 0) != (busy > 0)

    def forget(self, worker: WorkerId) -> None:
        """It has ended."""
        self._said.pop(worker, None)
        self._heard_at.pop(worker, None)

    def held(self, worker: WorkerId) -> tuple[Held, ...]:
        """What it said that it runs."""
        said = self._said.get(worker)
        return () if said is None else said.held

    def has_reported(self, worker: WorkerId) -> bool:
        """Whether it has ever been heard."""
        return worker in self._said

    def lost(
        self, workers: Iterable[RunningWorker], *, listening_since: datetime, now: datetime
    ) -> list[RunningWorker]:
        """Those that what runs them does not see, and that nobody has heard for a while."""
        return [
            one
            for one in workers
            if one.is_cut_off
            and now - max(self._heard_at.get(one.spec.id, one.started_at), listening_since) >= LOST_AFTER
        ]

    def views(self, workers: Iterable[RunningWorker], now: datetime) -> list[Worker]:
        """Workers as planning sees them; in most rounds nothing is new of most."""
        before, self._views = self._views, {}
        for running in workers:
            said = self._said.get(running.spec.id)
            state, idle_since = _state(running, said, now), None if said is None else said.idle_since
            view = before.get(running.spec.id)
            if (
                view is None
                or view.state is not state
                or view.idle_since != idle_since
                or view.started_at != running.started_at
            ):
                view = _view(running, state, idle_since)
            self._views[view.id] = view
        return list(self._views.values())


def _view(running: RunningWorker, state: WorkerState, idle_since: datetime | None) -> Worker:
    spec = running.spec
    return Worker(
        id=spec.id,
        service=spec.service,
        owner=spec.owner,
        pool=spec.pool,
        revision=spec.revision,
        cpu_millicores=spec.cpu_millicores,
        memory_bytes=spec.memory_bytes,
        started_at=running.started_at,
        state=state,
        idle_since=idle_since,
    )


def _state(running: RunningWorker, said: _Said | None, now: datetime) -> WorkerState:
    if running.is_draining:
        return WorkerState.DRAINING
    if said is None and not running.is_adopted and now - running.started_at < START_GRACE:
        return WorkerState.STARTING
    return WorkerState.RUNNING
