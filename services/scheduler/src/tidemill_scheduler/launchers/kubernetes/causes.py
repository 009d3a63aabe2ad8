"""Why a Worker does not run, or ended, in the cluster's own words. Pure readings of pods, Jobs and Events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tidemill_scheduler.ports import Cause

Object = Mapping[str, Any]
_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"})
_HOPELESS: Final = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
"""The image will not come; a first `ErrImagePull` may be a network's bad moment, and is tried once more."""
_BROKEN: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_UNTELLING: Final = frozenset({"BackoffLimitExceeded"})
"""A Job says this whatever its pod died of."""
DELETED: Final = frozenset({"JobDeleted", "PodDeleted"})
"""Somebody did that; it may have been us."""
NODE_LOST: Final = "NodeLost"
DEADLINE: Final = "DeadlineExceeded"
SUSPENDED: Final = "Suspended"
_CLOCKS: Final = timedelta(seconds=1)
"""What the clocks of a control plane may differ by, its times having whole seconds."""
CANNOT_START: Final = frozenset({"StartError", "ContainerCannotRun"})
"""The image has no shell, or the node cannot run it: its supervisor waits in vain."""
OF_ITSELF: Final = frozenset({"Completed", "Error", "ContainerStatusUnknown"})
"""A container's end that says nothing beyond its exit code; the last is of one that never ran."""
_IGNORED_EVENTS: Final = frozenset(
    {"MissingClusterDNS", "FailedToRetrieveImagePullSecret", "FailedScheduling", "Failed"}
)
"""Harmless, or said better by the pod's own status."""


def containers_of(pod: Object) -> tuple[Object, Object]:
    """Statuses of `supervisor` and `user`; empty where there is none yet."""
    found = {status["name"]: status for status in pod.get("status", {}).get("containerStatuses", ())}
    return found.get("supervisor", {}), found.get("user", {})


def pull_trouble(pod: Object) -> tuple[Cause | None, bool]:
    """What keeps containers from being made, and whether it is for good."""
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in _PULLING | _HOPELESS | _BROKEN:
            said = waiting.get("message", "")
            return Cause(reason, f"container {status['name']}: {said}" if said else f"image {status['image']}"), (
                reason in _HOPELESS
            )
    return None, False


def _statuses(pod: Object) -> list[Object]:
    found = pod.get("status", {})
    return [*found.get("initContainerStatuses", ()), *found.get("containerStatuses", ())]


def user_cause(status: Object) -> Cause | None:
    """Why the user's container ended; None: it has not."""
    ended = status.get("state", {}).get("terminated")
    return None if ended is None else _termination("user", ended)


def pod_cause(pod: Object) -> Cause | None:
    """Why a pod ended, beyond its supervisor's exit code; None: it ended by itself."""
    status = pod.get("status", {})
    if reason := status.get("reason"):
        return Cause(reason, status.get("message", ""))
    return disruption(pod, None, ()) or _container_cause(pod)


def disruption(pod: Object, job: Object | None, warnings: Sequence[Object]) -> Cause | None:
    """Why the cluster takes a pod away; known before it ends."""
    if (found := _condition(pod, "DisruptionTarget")) is not None:
        return Cause(found.get("reason", "Disrupted"), found.get("message", ""))
    of_job = None if job is None else job_cause(job) or _past_deadline(pod, job) or _suspension(pod, job)
    return of_job or _deadline_told(warnings)


def time_of(text: str | None) -> datetime | None:
    """RFC 3339, as the cluster writes it."""
    return datetime.fromisoformat(text) if text else None


def _past_deadline(pod: Object, job: Object) -> Cause | None:
    """The Job's controller deletes a pod whose time is over before it says why: this is known from the times alone."""
    limit, meta = job["spec"].get("activeDeadlineSeconds"), pod["metadata"]
    begun, ends = time_of(job.get("status", {}).get("startTime")), time_of(meta.get("deletionTimestamp"))
    if limit is None or begun is None or ends is None:
        return None
    deleted = ends - timedelta(seconds=meta.get("deletionGracePeriodSeconds", 0))
    is_over = deleted - begun >= timedelta(seconds=limit) - _CLOCKS
    return Cause(DEADLINE, f"Job was active longer than its deadline of {limit} s") if is_over else None


def _suspension(pod: Object, job: Object) -> Cause | None:
    """Of a pod that goes: one that comes may be seen before its Job is seen to be admitted."""
    is_suspended = "deletionTimestamp" in pod["metadata"] and job["spec"].get("suspend")
    return Cause(SUSPENDED, "its queue took its room back") if is_suspended else None


def _deadline_told(events: Sequence[Object]) -> Cause | None:
    """A pod's own deadline has passed: until its containers have ended, nothing but an Event says so."""
    return next((Cause(DEADLINE, one.get("message", "")) for one in events if one.get("reason") == DEADLINE), None)


def node_cause(node: Object) -> Cause:
    """Why what runs on a node is cut off from the cluster."""
    name = node["metadata"]["name"]
    for condition in node.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] != "True":
            return Cause(NODE_LOST, f"node {name}: {condition.get('message') or condition.get('reason', 'not ready')}")
    return Cause(NODE_LOST, f"node {name} does not answer")


def job_cause(job: Object) -> Cause | None:
    """Why a Job was given up, beyond that its pod failed; None: it was not."""
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")
    if failed is None or failed.get("reason") in _UNTELLING:
        return None
    return Cause(failed.get("reason", "Failed"), failed.get("message", ""))


def is_failed(job: Object) -> bool:
    """Whether it was given up, for whatever reason."""
    return (_condition(job, "Failed") or _condition(job, "FailureTarget")) is not None


def has_sandbox(pod: Object) -> bool:
    """Whether its volumes are mounted and its network is there, so that only containers are missing."""
    return _condition(pod, "PodReadyToStartContainers") is not None


def event_trouble(warnings: Sequence[Object], *, kind: str) -> Cause | None:
    """The newest Warning about this kind of object that says why a Worker does not run."""
    for event in reversed(warnings):
        about = event.get("involvedObject", {}).get("kind")
        if about == kind and event.get("reason") not in _IGNORED_EVENTS:
            message = event.get("message", "")
            return Cause("QuotaExceeded" if "exceeded quota" in message else event.get("reason", "Warning"), message)
    return None


def _container_cause(pod: Object) -> Cause | None:
    """The kernel killed a container, or it could not be started; one that should come before the others failed."""
    for status in pod.get("status", {}).get("initContainerStatuses", ()):
        ended = status.get("state", {}).get("terminated")
        if ended is not None and ended.get("exitCode") != 0:
            return _termination(status["name"], ended)
    for name, status in zip(("supervisor", "user"), containers_of(pod), strict=True):
        ended = status.get("state", {}).get("terminated")
        if ended is not None and ended.get("reason") not in OF_ITSELF:
            return _termination(name, ended)
    return None


def _termination(container: str, ended: Object) -> Cause:
    reason = ended.get("reason") or "Error"
    said = ended.get("message") or f"{reason}, exit code {ended.get('exitCode')}"
    return Cause(reason, f"container {container}: {said.strip()}")


def _condition(item: Object, kind: str) -> Object | None:
    for condition in item.get("status", {}).get("conditions", ()):
        if condition["type"] == kind and condition["status"] == "True":
            found: Object = condition
            return found
    return None
