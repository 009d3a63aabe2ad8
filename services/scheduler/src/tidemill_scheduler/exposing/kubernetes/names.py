"""Names and labels of an exposed Service's objects (OSCAR contract 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.kubernetes.labels import (
    MANAGED,
    QUEUE_LABEL,
    SERVICE_LABEL,
    is_queued,
    label_value,
    local_queue_of,
)
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

EXPOSED: Final = {**MANAGED, "app.kubernetes.io/component": "exposed"}
STOPPED: Final = "oscar.grycap.io/stopped"
PREVIOUS_REPLICAS: Final = "oscar.grycap.io/previous-replicas"
RESTARTED_AT: Final = "oscar.grycap.io/restarted-at"
REVISION: Final = "tidemill.io/revision"
"""On pods: another revision of the definition replaces them, also when only a secret's value is another."""


def deployment(service: str) -> str:
    """And so on."""
    return f"{service}-dpl"


def kubernetes_service(service: str) -> str:
    """The Kubernetes Service."""
    return f"{service}-svc"


def autoscaler(service: str) -> str:
    """The HorizontalPodAutoscaler."""
    return f"{service}-hpa"


def ingress(service: str) -> str:
    """The Ingress."""
    return f"{service}-ing"


def route(service: str) -> str:
    """The HTTPRoute."""
    return f"{service}-route"


def ingress_password(service: str) -> str:
    """The Secret that nginx reads."""
    return f"{service}-auth-expose"


def traefik_password(service: str) -> str:
    """The Secret that Traefik reads."""
    return f"{service}-auth-traefik"


def cors_middleware(service: str) -> str:
    """Traefik's, for other origins."""
    return f"{service}-cors-mdw"


def auth_middleware(service: str) -> str:
    """Traefik's, for the token."""
    return f"{service}-auth-mdw"


def app(service: str) -> dict[str, str]:
    """By which pods are found."""
    return {"app": f"oscar-svc-exp-{service}"}


def strip_middleware(service: str) -> str:
    """Traefik's, for the public path."""
    return f"{service}-strip-mdw"


def labels_of(service: Service, settings: KubernetesSettings) -> dict[str, str]:
    """Of every object and pod; ours win over the user's."""
    queue = {}
    if is_queued(service, settings):
        queue[QUEUE_LABEL] = local_queue_of(service, settings)
    return {
        **{name: label_value(value) for name, value in service.labels.items()},
        **settings.labels,
        "oscar_service": service.name,
        "oscar.grycap/user-service": "true",
        **queue,
        **EXPOSED,
        SERVICE_LABEL: service.name,
    }


def service_of(item: Mapping[str, Any]) -> str:
    """The Service that an object belongs to; empty: none."""
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return labels.get(SERVICE_LABEL, "")
