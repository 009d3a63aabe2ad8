"""Where in the cluster a Worker may run."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings, PlacementSettings

INTERLINK_TAINT: Final = "virtual-node.interlink/no-schedule"
_LOST: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def placement_of(service: Service, settings: KubernetesSettings, interlink_nodes: Set[str]) -> dict[str, Any]:
    """Fields of the pod that say where it goes.

    Args:
        interlink_nodes: The virtual nodes that there are; a Service that names another runs as all others do (OSCAR).
    """
    placement = settings.placement
    selector, tolerations = dict(placement.node_selector), [*placement.tolerations, *_tolerate_loss(placement)]
    if placement.architecture:
        selector["kubernetes.io/arch"] = placement.architecture
    if service.interlink_node_name in interlink_nodes:
        selector["kubernetes.io/hostname"] = service.interlink_node_name
        tolerations.append({"key": INTERLINK_TAINT, "operator": "Exists"})
    found = {
        "nodeSelector": selector,
        "tolerations": tolerations,
        "priorityClassName": placement.priority_class,
        "runtimeClassName": placement.runtime_class,
        "schedulerName": placement.scheduler_name or ("yunikorn" if settings.yunikorn else ""),
    }
    return {name: value for name, value in found.items() if value}


def _tolerate_loss(placement: PlacementSettings) -> list[dict[str, Any]]:
    """Kubernetes adds these itself, with 300 s, where they are absent."""
    seconds = int(placement.lost_node_after.total_seconds())
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in _LOST
        if all(toleration.get("key") != key for toleration in placement.tolerations)
    ]
