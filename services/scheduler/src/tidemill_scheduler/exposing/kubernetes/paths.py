"""Where the objects of exposed Services are in the API, and who owns which of their fields."""

from __future__ import annotations

from typing import Final

from tidemill_scheduler.launchers.kubernetes.api import Object

MANAGER: Final = "tidemill"
SCALER: Final = "tidemill-scale"
"""Owner of the number of pods, so that applying the rest does not undo the autoscaler's."""
_PLURALS: Final = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Ingress": "ingresses",
    "HTTPRoute": "httproutes",
    "Middleware": "middlewares",
}


def path_of(item: Object) -> str:
    """Where an object is."""
    meta = item["metadata"]
    return path_to(item["apiVersion"], item["kind"], meta["namespace"], meta["name"])


def path_to(version: str, kind: str, namespace: str, name: str) -> str:
    """Where an object of this name is."""
    root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/{namespace}/{_PLURALS[kind]}/{name}"
