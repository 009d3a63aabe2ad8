"""What is remembered of objects: without managed fields and the like one takes a fifth of its memory."""

from __future__ import annotations

from typing import Any, Final

from tidemill_common.contracts.contract import WorkerId
from tidemill_scheduler.launchers.kubernetes.labels import WORKER_LABEL
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType
from tidemill_scheduler.launchers.kubernetes.states import Object, Seen

_KEPT: Final = ("metadata", "spec", "status", "reason", "message", "involvedObject", "lastTimestamp")

_METADATA: Final = (
    "name",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "annotations",
)
_SPEC: Final = ("nodeName", "suspend", "activeDeadlineSeconds")


def buried(seen: Seen) -> Seen:
    """An ended Worker: enough to know its objects again."""
    pod = None if seen.pod is None else {"metadata": {"name": seen.pod["metadata"]["name"], **_identity(seen.pod)}}
    job: Object | None = None if seen.job is None else {"metadata": {}, "spec": {}}
    return Seen(job=job, pod=pod)


def _identity(item: Object) -> dict[str, Any]:
    return {name: item["metadata"][name] for name in ("uid", "creationTimestamp") if name in item["metadata"]}


def trimmed(item: Object) -> Object:
    """What states are read from; without managed fields and the like an object takes a fifth of its memory."""
    found = {name: item[name] for name in _KEPT if name in item}
    metadata = item.get("metadata", {})
    found["metadata"] = {name: metadata[name] for name in _METADATA if name in metadata}
    if "spec" in found:
        found["spec"] = {name: item["spec"][name] for name in _SPEC if name in item["spec"]}
    return found


def as_last_seen(before: Object, deleted: Object) -> Object:
    """A pod as it was when it went; a list that lacks it tells nothing of its end."""
    return trimmed(deleted) if "status" in deleted else before


def worker_of(pod: Object) -> WorkerId:
    """Whose pod it is."""
    return WorkerId(pod["metadata"].get("labels", {}).get(WORKER_LABEL, ""))


def node_of_pod(pod: Object | None) -> str:
    """Where it runs; empty: nowhere yet."""
    return "" if pod is None else str(pod.get("spec", {}).get("nodeName", ""))


def replaces(change: Change, before: Object) -> bool:
    """Whether this tells of the same pod, or of a later one."""
    pod, known = change.object["metadata"], before["metadata"]
    if pod["uid"] == known["uid"]:
        return True
    is_newer: bool = pod["creationTimestamp"] >= known["creationTimestamp"]
    return is_newer and change.type is not ChangeType.DELETED
