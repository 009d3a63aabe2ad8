"""What the cluster says of one Worker, as one value: pending, running or ended, and why. Pure.

Three kinds of object tell of a Worker: its Job (that it was created, suspended, given up), its pod (everything that
happens on a node), and Warning Events (quotas and mounts, which leave no trace in the other two).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from tidemill_scheduler.launchers.kubernetes.causes import (
    CANNOT_START,
    SUSPENDED,
    containers_of,
    disruption,
    event_trouble,
    has_sandbox,
    is_failed,
    job_cause,
    pod_cause,
    pull_trouble,
    time_of,
    user_cause,
)
from tidemill_scheduler.ports import Cause

Object = Mapping[str, Any]


class Stage(StrEnum):
    """How far a Worker is."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest of what the watches told of one Worker."""

    job: Object | None = None
    pod: Object | None = None
    warnings: Sequence[Object] = ()
    """Events of its Job, its pod and its queue's Workload that say what is wrong, oldest first, one of each reason."""
    node_lost: Cause | None = None
    """The node of its pod is gone, or does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a Worker is."""

    stage: Stage
    since: datetime | None = None
    """Running: since when its supervisor runs. Pending: since when it was made."""
    trouble: Cause | None = None
    """What keeps it from running."""
    is_cut_off: bool = False
    """Its node does not answer: nothing else that is said of it here is news."""
    is_hopeless: bool = False
    """The trouble does not pass by itself, and nothing can end it: withdraw it."""
    is_waiting_for_room: bool = False
    """It waits for a node, or for a quota."""
    user_ended: Cause | None = None
    """User code's container has ended; the supervisor runs."""
    going: Cause | None = None
    """Running: somebody takes its pod away, and it has a little time left."""
    supervisor_ended: bool = False
    """The supervisor has ended; the user's container runs."""
    cause: Cause | None = None
    exit_code: int | None = None
    """Of the supervisor, once it has ended."""
    signal: int | None = None
    """Ended: of the supervisor."""
    last_line: str = ""
    """Ended with an error: the last line that the supervisor wrote."""


def standing_of(seen: Seen) -> Standing:
    """What all that was seen amounts to. A pod that still runs holds room, whatever became of its Job."""
    pod = seen.pod
    if pod is None:
        gone = seen.job is None or is_failed(seen.job) or is_complete(seen.job)
        return _ended(seen) if gone else _without_pod(seen)
    if _is_over(pod) or (seen.node_lost and is_deleted(pod)):
        return _ended(seen)
    standing = _with_pod(seen, pod)
    return standing if seen.node_lost is None else replace(standing, trouble=seen.node_lost, is_cut_off=True)


def _without_pod(seen: Seen) -> Standing:
    assert seen.job is not None
    if seen.job["spec"].get("suspend"):
        told = event_trouble(seen.warnings, kind="Workload")
        trouble: Cause | None = Cause(SUSPENDED, told.message if told else "waits for its queue to admit it")
    else:
        trouble = event_trouble(seen.warnings, kind="Job")
    return Standing(
        stage=Stage.PENDING,
        since=_created(seen.job),
        trouble=trouble,
        is_waiting_for_room=trouble is not None and trouble.reason != SUSPENDED,
    )


def _with_pod(seen: Seen, pod: Object) -> Standing:
    supervisor, user = containers_of(pod)
    started = supervisor.get("state", {}).get("running", {}).get("startedAt")
    if "terminated" in supervisor.get("state", {}):
        pull, is_hopeless = pull_trouble(pod)
        return Standing(
            stage=Stage.RUNNING,
            since=_created(pod),
            supervisor_ended=True,
            exit_code=supervisor["state"]["terminated"].get("exitCode"),
            trouble=pull,
            is_hopeless=is_hopeless,
        )
    ended = user_cause(user)
    if started is not None and ("running" in user.get("state", {}) or ended is not None):
        is_hopeless = ended is not None and ended.reason in CANNOT_START
        return Standing(
            stage=Stage.RUNNING,
            since=time_of(started),
            going=_going(seen, pod),
            user_ended=ended,
            trouble=ended,
            is_hopeless=is_hopeless,
        )
    return _pending(seen, pod)


def _pending(seen: Seen, pod: Object) -> Standing:
    unschedulable = _unschedulable(pod)
    pull, is_hopeless = pull_trouble(pod)
    return Standing(
        stage=Stage.PENDING,
        since=_created(pod),
        trouble=pull or unschedulable or _trouble_told(seen, pod),
        is_hopeless=is_hopeless,
        is_waiting_for_room=unschedulable is not None,
    )


def _trouble_told(seen: Seen, pod: Object) -> Cause | None:
    """Warnings are not taken back, but once the pod's sandbox is there its volumes are as well."""
    return None if has_sandbox(pod) else event_trouble(seen.warnings, kind="Pod")


def _unschedulable(pod: Object) -> Cause | None:
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Cause(condition.get("reason", "Unschedulable"), condition.get("message", ""))
    return None


def _ended(seen: Seen) -> Standing:
    exit_code, signal = _exit(seen.pod)
    cause = seen.node_lost or (None if seen.pod is None else pod_cause(seen.pod))
    if cause is None and seen.job is not None:
        cause = job_cause(seen.job)
    if cause is None and seen.pod is not None:
        cause = _going(seen, seen.pod)
    if cause is None and seen.pod is None:
        cause = (
            Cause("JobDeleted", "its Job was deleted") if seen.job is None else Cause("PodDeleted", "its pod is gone")
        )
    return Standing(stage=Stage.ENDED, cause=cause, exit_code=exit_code, signal=signal, last_line=_last_line(seen.pod))


def _going(seen: Seen, pod: Object) -> Cause | None:
    deleted = Cause("PodDeleted", f"pod {pod['metadata']['name']} was deleted") if is_deleted(pod) else None
    return disruption(pod, seen.job, seen.warnings) or deleted


def _exit(pod: Object | None) -> tuple[int | None, int | None]:
    """Exit code and signal of the supervisor; both None when it never ended by itself."""
    if pod is None:
        return None, None
    ended = containers_of(pod)[0].get("state", {}).get("terminated")
    if ended is None:
        return None, None
    code = int(ended["exitCode"])
    return (None, code - _SIGNALLED) if code > _SIGNALLED else (code, None)


def _last_line(pod: Object | None) -> str:
    """Kept by the node as the container's message (`FallbackToLogsOnError`): no request for logs is needed."""
    ended = {} if pod is None else containers_of(pod)[0].get("state", {}).get("terminated", {})
    lines = str(ended.get("message") or "").strip().splitlines()
    return lines[-1][:_LINE] if lines else ""


_LINE: Final = 500
_SIGNALLED: Final = 128
"""A container that a signal ended has 128 and its number."""


def _is_over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_deleted(pod: Object) -> bool:
    """Whether somebody deleted it; it may run on for its grace time."""
    return "deletionTimestamp" in pod["metadata"]


def is_complete(job: Object) -> bool:
    """Whether it did its work."""
    return any(
        condition["type"] == "Complete" and condition["status"] == "True"
        for condition in job.get("status", {}).get("conditions", ())
    )


def _created(item: Object) -> datetime | None:
    return time_of(item["metadata"].get("creationTimestamp"))
