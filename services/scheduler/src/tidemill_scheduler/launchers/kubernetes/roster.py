"""The Workers of a cluster, from what the watches tell. No I/O: it hands on ends and notices as they become known.

What is told may come in any order, twice, or late (a Job's watch knows nothing of its pod's): each change leads to the
same evaluation of all that was seen of one Worker. Only what it keeps is remembered; the rest of each object is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill_common.contracts.contract import WorkerId
from tidemill_scheduler.launchers.kubernetes.causes import DELETED, OF_ITSELF, SUSPENDED
from tidemill_scheduler.launchers.kubernetes.labels import spec_of
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType
from tidemill_scheduler.launchers.kubernetes.remembering import (
    as_last_seen,
    buried,
    node_of_pod,
    replaces,
    trimmed,
    worker_of,
)
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.states import Object, Seen, Stage, Standing, standing_of
from tidemill_scheduler.launchers.shells import lacks_shell
from tidemill_scheduler.ports import Cause, RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec

_WARNINGS: Final = 8
"""Of one Worker, the newest."""
_UNKNOWN: Final = Standing(stage=Stage.PENDING)


@dataclass(slots=True)
class _Tracked:
    """A Worker that has not ended."""

    spec: WorkerSpec
    made_at: datetime
    is_adopted: bool
    standing: Standing = _UNKNOWN
    running_at: datetime | None = None
    """By our own clock, where we saw it happen."""
    changed_at: datetime | None = None
    """Since when its trouble, or its supervisor's end, is known."""
    is_draining: bool = False
    noticed: Cause | None = None
    """What it was told."""
    is_withdrawn: bool = False
    withdrawn_for: Cause | None = None
    plain_image: str = ""
    """Its image, if the Worker has no other shell than the image's."""
    is_shellless: bool = False
    """It could not start for want of a shell; the next one brings it."""


class Roster:
    """All Workers that have not ended.

    Args:
        on_end: Told once of each Worker's end.
        on_notice: Told when a Worker's user container ends, or somebody takes its pod away; once more should it become
            known only then why the pod was deleted.
        on_withdraw: Told when a Job should be deleted.
        on_shellless: Told of an image that turned out to have no shell.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        on_end: Callable[[WorkerEnded], None],
        on_notice: Callable[[WorkerNotice], None],
        on_withdraw: Callable[[WorkerId], None],
        on_shellless: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._on_end = on_end
        self._on_notice = on_notice
        self._on_withdraw = on_withdraw
        self._on_shellless = on_shellless
        self._seen: dict[WorkerId, Seen] = {}
        self._tracked: dict[WorkerId, _Tracked] = {}
        self._ended: set[WorkerId] = set()
        """Told to have ended, while their Jobs are still there."""
        self._lost_nodes: dict[str, Cause] = {}
        self._is_complete = False

    def complete(self) -> None:
        """Everything that was there has been told: what was seen so far may be judged."""
        self._is_complete = True
        for worker in list(self._seen):
            self._judge(worker)

    def started(self, spec: WorkerSpec, job: Object, now: datetime, *, plain_image: str = "") -> None:
        """Its Job was created a moment ago.

        Args:
            plain_image: Its image, if that is all: it may turn out to lack a shell. Empty: the Worker brings one.
        """
        if spec.id in self._ended:
            return
        tracked = self._tracked.setdefault(spec.id, _Tracked(spec, now, is_adopted=False))
        tracked.plain_image = plain_image or tracked.plain_image
        tracked.is_adopted = False  # the watch may have told of the Job before its creation was answered
        seen = self._seen.setdefault(spec.id, Seen())
        if seen.job is None:
            self._seen[spec.id] = replace(seen, job=trimmed(job))
        self._judge(spec.id)

    def take_job(self, change: Change) -> None:
        """A Job has changed."""
        worker = WorkerId(change.object["metadata"]["name"])
        job = None if change.type is ChangeType.DELETED else trimmed(change.object)
        self._take(worker, replace(self._seen.get(worker, Seen()), job=job))

    def take_pod(self, change: Change) -> None:
        """A pod has changed. Of several pods of one Worker (its queue suspended it between) the newest counts."""
        worker = worker_of(change.object)
        seen = self._seen.get(worker, Seen())
        before = seen.pod
        if before is not None and not replaces(change, before):
            return
        pod = None if change.type is ChangeType.DELETED else trimmed(change.object)
        if pod is None and before is not None and worker in self._tracked:
            self._take(worker, replace(seen, pod=as_last_seen(before, change.object)))  # its last words
            seen = self._seen.get(worker, Seen())
        self._take(worker, replace(seen, pod=pod, node_lost=self._lost_nodes.get(node_of_pod(pod))))

    def take_warning(self, change: Change) -> None:
        """An Event that says what is wrong was written, or counted up."""
        if change.type is ChangeType.DELETED:
            return
        worker = self._worker_named(change.object["involvedObject"])
        if worker is None:
            return
        seen = self._seen[worker]
        others = [event for event in seen.warnings if event.get("reason") != change.object.get("reason")]
        self._take(worker, replace(seen, warnings=[*others, trimmed(change.object)][-_WARNINGS:]))

    def take_node(self, name: str, lost: Cause | None) -> None:
        """A node answers, or does not."""
        if (lost is None) == (name not in self._lost_nodes):
            return
        if lost is None:
            del self._lost_nodes[name]
        else:
            self._lost_nodes[name] = lost
        for worker, seen in list(self._seen.items()):
            if seen.pod is not None and node_of_pod(seen.pod) == name:
                self._take(worker, replace(seen, node_lost=lost))

    def drain(self, worker: WorkerId) -> None:
        """It is asked to drain; one that never ran is withdrawn."""
        tracked = self._tracked.get(worker)
        if tracked is not None and not tracked.is_draining:
            tracked.is_draining = True
            if tracked.standing.stage is Stage.PENDING:
                self._on_withdraw(worker)

    def kill(self, worker: WorkerId) -> None:
        """It is being killed: its end was asked for."""
        if (tracked := self._tracked.get(worker)) is not None:
            tracked.is_draining = True

    def draining(self) -> Sequence[WorkerSpec]:
        """Those that run and should be told to drain."""
        return [
            tracked.spec
            for tracked in self._tracked.values()
            if tracked.is_draining and tracked.standing.stage is Stage.RUNNING
        ]

    def pod_name(self, worker: WorkerId) -> str | None:
        """Its pod."""
        seen = self._seen.get(worker)
        return None if seen is None or seen.pod is None else str(seen.pod["metadata"]["name"])

    def workers(self) -> Sequence[RunningWorker]:
        """All that have not ended."""
        return [_view(tracked) for tracked in self._tracked.values()]

    def withdraw_overdue(self, now: datetime) -> None:
        """Give up Workers that have waited for longer than the settings allow."""
        for worker, tracked in list(self._tracked.items()):
            limit = self._limit(tracked.standing)
            if limit is None or tracked.changed_at is None or tracked.is_withdrawn:
                continue
            if now - tracked.changed_at >= limit:
                self._withdraw(worker, tracked, tracked.standing.trouble)

    def _take(self, worker: WorkerId, seen: Seen) -> None:
        if seen.job is None and seen.pod is None:
            self._seen.pop(worker, None)
        else:
            self._seen[worker] = seen
        if self._is_complete:
            self._judge(worker)

    def _judge(self, worker: WorkerId) -> None:
        seen = self._seen.get(worker, Seen())
        if worker in self._ended:
            self._bury(worker, seen)
            return
        standing = standing_of(seen)
        tracked = self._tracked.get(worker)
        if standing.stage is Stage.ENDED:
            self._end(worker, tracked, standing, seen)
        elif tracked is not None or (tracked := self._adopt(worker, seen)) is not None:
            self._update(worker, tracked, standing)

    def _adopt(self, worker: WorkerId, seen: Seen) -> _Tracked | None:
        """A Worker that an earlier scheduler started, or one whose creation we did not see confirmed."""
        spec = None if seen.job is None else spec_of(seen.job)
        if spec is None:
            return None
        tracked = self._tracked[worker] = _Tracked(spec, datetime.now(UTC), is_adopted=True)
        return tracked

    def _update(self, worker: WorkerId, tracked: _Tracked, standing: Standing) -> None:
        before, tracked.standing = tracked.standing, standing
        if standing.stage is Stage.RUNNING and tracked.running_at is None:
            tracked.running_at = (standing.since if tracked.is_adopted else None) or datetime.now(UTC)
        reason = standing.trouble and standing.trouble.reason
        if (reason, standing.supervisor_ended) != (before.trouble and before.trouble.reason, before.supervisor_ended):
            tracked.changed_at = datetime.now(UTC)
        self._learn(tracked, standing.trouble)
        if (cause := _news(tracked, standing)) is not None:
            tracked.noticed = cause
            self._on_notice(WorkerNotice(spec=tracked.spec, cause=cause))
        if (standing.is_hopeless or tracked.is_shellless) and not tracked.is_withdrawn:
            self._withdraw(worker, tracked, standing.trouble)

    def _learn(self, tracked: _Tracked, cause: Cause | None) -> None:
        """An image without a shell is no failure of its Service: nothing was leased, and the next Worker brings one."""
        if cause is not None and tracked.plain_image and lacks_shell(cause.message):
            tracked.is_shellless = True
            self._on_shellless(tracked.plain_image)

    def _withdraw(self, worker: WorkerId, tracked: _Tracked, cause: Cause | None) -> None:
        tracked.is_withdrawn, tracked.withdrawn_for = True, cause
        self._on_withdraw(worker)

    def _end(self, worker: WorkerId, tracked: _Tracked | None, standing: Standing, seen: Seen) -> None:
        self._ended.add(worker)
        if tracked is not None:
            self._learn(tracked, standing.cause)
            del self._tracked[worker]
            self._on_end(_ended(tracked, standing))
        if seen.job is not None and seen.job["spec"].get("suspend"):
            self._on_withdraw(worker)  # its queue would start it again, unknown to everybody
        self._bury(worker, seen)

    def _bury(self, worker: WorkerId, seen: Seen) -> None:
        """Remember no more of an ended Worker than that it ended, and not even that when its Job is gone."""
        self._seen.pop(worker, None)
        if seen.job is None and seen.pod is None:
            self._ended.discard(worker)
        else:
            self._seen[worker] = buried(seen)

    def _limit(self, standing: Standing) -> timedelta | None:
        if standing.supervisor_ended:
            is_orderly = standing.exit_code == 0
            return self._settings.leftover_timeout if is_orderly else self._settings.abandoned_timeout
        if standing.user_ended is not None:
            return self._settings.ending_timeout
        if standing.stage is not Stage.PENDING or standing.trouble is None or standing.trouble.reason == SUSPENDED:
            return None
        if standing.is_waiting_for_room:
            return self._settings.unschedulable_timeout
        return self._settings.container_timeout

    def _worker_named(self, about: Object) -> WorkerId | None:
        """Whose Job, pod or Workload (of Kueue) this is; the latter two are named by their Job and a suffix."""
        name = str(about.get("name", ""))
        if about.get("kind") == "Workload":
            name = name.removeprefix("job-")
        for worker in (WorkerId(name), WorkerId(name.rpartition("-")[0])):
            if worker in self._seen and worker not in self._ended:
                return worker
        return None


def _news(tracked: _Tracked, standing: Standing) -> Cause | None:
    """What its Worker is to be told. A pod's deletion may be seen before its Job's suspension, which led to it."""
    is_ours = tracked.is_draining or tracked.is_withdrawn
    going = None if is_ours else standing.going
    if tracked.noticed is None:
        return standing.user_ended or going
    says_more = going is not None and going.reason not in DELETED and tracked.noticed.reason in DELETED
    return going if says_more else None


def _view(tracked: _Tracked) -> RunningWorker:
    standing = tracked.standing
    return RunningWorker(
        spec=tracked.spec,
        started_at=tracked.running_at or standing.since or tracked.made_at,
        is_draining=tracked.is_draining or tracked.is_withdrawn,
        is_adopted=tracked.is_adopted,
        is_pending=standing.stage is Stage.PENDING,
        is_cut_off=standing.is_cut_off,
        trouble=None if tracked.is_shellless else standing.trouble,
    )


def _of_user_code(tracked: _Tracked, standing: Standing) -> Cause | None:
    """What the user's container ended of. It follows a killed supervisor, and may be seen to have ended first."""
    cause = tracked.standing.user_ended
    return None if cause is not None and standing.signal is not None and cause.reason in OF_ITSELF else cause


def _ended(tracked: _Tracked, standing: Standing) -> WorkerEnded:
    """Its end; what we deleted ended for what we deleted it for."""
    cause = tracked.withdrawn_for or _of_user_code(tracked, standing) or standing.cause
    if cause is not None and cause.reason in DELETED and (tracked.is_withdrawn or tracked.is_draining):
        cause = None
    return WorkerEnded(
        spec=tracked.spec,
        was_draining=tracked.is_draining or tracked.is_shellless,
        exit_code=standing.exit_code,
        signal=standing.signal,
        last_line=standing.last_line,
        cause=cause,
    )
