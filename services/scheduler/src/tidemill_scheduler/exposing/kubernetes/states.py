"""What Deployment and pods say of one exposed Service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidemill_scheduler.exposing.domain import Observation

Object = Mapping[str, Any]
_BROKEN: Final = frozenset(
    (
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "OOMKilled",
    )
)
_HARMLESS: Final = frozenset(("ContainerCreating", "PodInitializing"))


def observation(deployment: Object | None, pods: Iterable[Object], url: str | None) -> Observation:
    """What runs now."""
    status: Object = (deployment or {}).get("status") or {}
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    active = int(status.get("readyReplicas") or 0)
    found = [trouble for pod in living if (trouble := _trouble(pod))] or _conditions(status)
    reason, is_broken = max(found, key=lambda each: each[1], default=("", False))
    return Observation(
        urls=(url,) if url is not None and active else (),
        active=active,
        present=max(len(living), int(status.get("replicas") or 0)),
        reason=reason,
        is_broken=is_broken,
    )


def _trouble(pod: Object) -> tuple[str, bool] | None:
    """(what is wrong with it, whether waiting will not help); None: nothing is."""
    status: Object = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        if (found := _of_container(container)) is not None:
            return found
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _said(condition), False
    if status.get("phase") == "Failed":
        return _said(status), True
    return None


def _of_container(container: Object) -> tuple[str, bool] | None:
    if container.get("ready"):
        return None
    last: Object = (container.get("lastState") or {}).get("terminated") or {}
    state: Object = container.get("state") or {}
    if waiting := state.get("waiting"):
        if waiting.get("reason") in _HARMLESS:
            return None
        ended = f" ({_ended(last)})" if last else ""
        return f"{_said(waiting)}{ended}", waiting.get("reason") in _BROKEN
    if terminated := state.get("terminated"):
        return _ended(terminated), True
    return (_ended(last), True) if last else None


def _ended(terminated: Object) -> str:
    reason, code = terminated.get("reason", "ended"), terminated.get("exitCode")
    return f"{reason}, exit code {code}" if code is not None else str(reason)


def _said(found: Object) -> str:
    reason, message = found.get("reason") or "", found.get("message") or ""
    return f"{reason}: {message}" if reason and message else reason or message


def _conditions(status: Object) -> list[tuple[str, bool]]:
    """What keeps the Deployment from having pods: a quota, or admission."""
    return [
        (_said(condition), True)
        for condition in status.get("conditions") or ()
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
