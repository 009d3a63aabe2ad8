"""Capacity of the cluster, from its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidemill_common.quantity import millicores, size_bytes
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.launchers.kubernetes.causes import node_cause
from tidemill_scheduler.launchers.kubernetes.placement import INTERLINK_TAINT
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.ports import Cause

Object = Mapping[str, Any]
POOL: Final = "kubernetes"
_BLOCKING: Final = frozenset({"NoSchedule", "NoExecute"})
_UNREACHABLE: Final = "node.kubernetes.io/unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, as far as it matters here."""

    name: str
    cpu_millicores: int
    memory_bytes: int
    is_usable: bool
    """Ready, not cordoned, of our selector, without a taint that is not tolerated."""
    lost: Cause | None
    """It does not answer."""
    is_interlink: bool


def node_of(item: Object, settings: KubernetesSettings) -> Node:
    """What a Node object says."""
    room = item.get("status", {}).get("allocatable", {})
    taints = item.get("spec", {}).get("taints", ())
    return Node(
        name=item["metadata"]["name"],
        cpu_millicores=max(0, millicores(room.get("cpu", "0")) - settings.nodes.reserve_cpu_millicores),
        memory_bytes=max(0, size_bytes(room.get("memory", "0")) - settings.nodes.reserve_memory_bytes),
        is_usable=_is_ready(item) and _matches(item, settings) and all(_tolerated(t, settings) for t in taints),
        lost=node_cause(item) if any(taint["key"] == _UNREACHABLE for taint in taints) else None,
        is_interlink=any(taint["key"] == INTERLINK_TAINT for taint in taints)
        or item["metadata"].get("labels", {}).get("virtual-node.interlink/type") is not None,
    )


def pool_of(nodes: Iterable[Node], settings: KubernetesSettings, *, max_starting: int | None) -> Pool:
    """What Workers may take together, their supervisors included: all usable nodes."""
    usable = [node for node in nodes if node.is_usable]
    return Pool(
        name=POOL,
        cpu_millicores=sum(node.cpu_millicores for node in usable),
        memory_bytes=sum(node.memory_bytes for node in usable),
        nodes=max(1, len(usable)),
        max_starting=max_starting,
        beside_cpu_millicores=millicores(settings.supervisor.cpu_request),
        beside_memory_bytes=size_bytes(settings.supervisor.memory_request),
    )


def _is_ready(item: Object) -> bool:
    return not item.get("spec", {}).get("unschedulable") and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in item.get("status", {}).get("conditions", ())
    )


def _matches(item: Object, settings: KubernetesSettings) -> bool:
    labels, placement = item["metadata"].get("labels", {}), settings.placement
    wanted = dict(placement.node_selector)
    if placement.architecture:
        wanted["kubernetes.io/arch"] = placement.architecture
    return all(labels.get(name) == value for name, value in wanted.items())


def _tolerated(taint: Object, settings: KubernetesSettings) -> bool:
    if taint.get("effect") not in _BLOCKING:
        return True
    return any(_tolerates(toleration, taint) for toleration in settings.placement.tolerations)


def _tolerates(toleration: Object, taint: Object) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/."""
    if toleration.get("effect", taint.get("effect")) != taint.get("effect"):
        return False
    key, value = toleration.get("key"), toleration.get("value", "")
    if toleration.get("operator") == "Exists":
        return key in (None, taint["key"])
    return (key, value) == (taint["key"], taint.get("value", ""))
