"""Deployment, Kubernetes Service and what they need, of one exposed Service. Pure: equal arguments give equal objects.

`spec.replicas` is not among the fields: the HorizontalPodAutoscaler changes it, and `scale_of` sets it when an exposed
Service starts or stops.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Set
from typing import Any, Final

from tidemill_common.quantity import millicores, size_bytes
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes import names
from tidemill_scheduler.launchers.kubernetes.labels import annotations_of
from tidemill_scheduler.launchers.kubernetes.placement import placement_of
from tidemill_scheduler.launchers.kubernetes.security import pod_security, user_security
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import literal, pull_policy, pull_secrets

Json = dict[str, Any]
SCRIPT: Final = "script.sh"
CONFIG: Final = "/oscar/config"
TOKEN: Final = "OSCAR_SERVICE_TOKEN"  # noqa: S105 - a variable's name
_ALL: Final = 0o777
_HTTP_PORT: Final = 80


def metadata(exposure: Exposure, name: str, settings: KubernetesSettings) -> Json:
    """Of every object."""
    labels = names.labels_of(exposure.service, settings)
    return {"name": name, "namespace": settings.namespace, "labels": labels}


def config_map(exposure: Exposure, settings: KubernetesSettings) -> Json:
    """The script."""
    meta = metadata(exposure, exposure.name, settings)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {SCRIPT: exposure.service.script}}


def secret(exposure: Exposure, environment: Mapping[str, str], settings: KubernetesSettings) -> Json:
    """The user's secrets, and the token."""
    meta = metadata(exposure, exposure.name, settings)
    data = {name: base64.b64encode(value.encode()).decode() for name, value in environment.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}


def deployment(
    exposure: Exposure,
    settings: KubernetesSettings,
    *,
    interlink_nodes: Set[str] = frozenset(),
) -> Json:
    """The Deployment, without its number of pods."""
    service = exposure.service
    meta = metadata(exposure, names.deployment(service.name), settings)
    annotations = annotations_of(service, settings)
    restarted = exposure.wish.restarted_at
    pod_annotations = {**annotations, names.REVISION: str(exposure.revision)}
    if restarted is not None:
        pod_annotations[names.RESTARTED_AT] = restarted.isoformat()
    labels = {**meta["labels"], **names.app(service.name)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**meta, "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": names.app(service.name)},
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {"labels": labels, "annotations": pod_annotations},
                "spec": _pod(exposure, settings, interlink_nodes),
            },
        },
    }


def scale_of(exposure: Exposure, settings: KubernetesSettings, replicas: int, previous: int | None = None) -> Json:
    """The number of pods; with what it was before it was stopped (contract 1.5)."""
    meta: Json = {"name": names.deployment(exposure.name), "namespace": settings.namespace}
    if previous is not None:
        meta["annotations"] = {names.STOPPED: "true", names.PREVIOUS_REPLICAS: str(previous)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


def kubernetes_service(exposure: Exposure, settings: KubernetesSettings) -> Json:
    """Port 80 and those after it; on nodes as well when ports are named."""
    expose = exposure.expose
    ports: list[Json] = [
        {"name": f"port-{index}", "port": _HTTP_PORT + index, "targetPort": port, "protocol": "TCP"}
        for index, port in enumerate(expose.api_port)
    ]
    for entry, node_port in zip(ports, expose.node_port, strict=False):
        if node_port:
            entry["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(exposure, names.kubernetes_service(exposure.name), settings),
        "spec": {
            "type": "NodePort" if expose.node_port else "ClusterIP",
            "selector": names.app(exposure.name),
            "ports": ports,
        },
    }


def autoscaler(exposure: Exposure, settings: KubernetesSettings) -> Json:
    """By CPU, between the bounds of the Service."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.deployment(exposure.name)}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": exposure.cpu_threshold}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(exposure, names.autoscaler(exposure.name), settings),
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": exposure.min_scale,
            "maxReplicas": exposure.max_scale,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }


def probes(exposure: Exposure) -> Json:
    """OSCAR's figures."""
    asked = {"httpGet": {"path": exposure.health_path, "port": exposure.port}, "timeoutSeconds": 10}
    return {
        "startupProbe": {**asked, "periodSeconds": 10, "failureThreshold": 18},
        "readinessProbe": {**asked, "initialDelaySeconds": 10, "periodSeconds": 5},
        "livenessProbe": {**asked, "initialDelaySeconds": 60, "periodSeconds": 10, "failureThreshold": 12},
    }


def _pod(exposure: Exposure, settings: KubernetesSettings, interlink: Set[str]) -> Json:
    service = exposure.service
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings),
        "containers": [_container(exposure, settings)],
        "volumes": [
            {
                "name": "oscar-config",
                "configMap": {
                    "name": service.name,
                    "defaultMode": _ALL,
                    "items": [{"key": SCRIPT, "path": SCRIPT}],
                },
            }
        ],
        **placement_of(service, settings, interlink),
    }
    if secrets := pull_secrets(service, settings):
        pod["imagePullSecrets"] = secrets
    return pod


def _container(exposure: Exposure, settings: KubernetesSettings) -> Json:
    service = exposure.service
    container: Json = {
        "name": service.name,
        "image": service.image,
        "imagePullPolicy": pull_policy(service.image, settings.user.pull_policy),
        "env": _environment(exposure),
        # a Service without secrets of its own has the token there
        "envFrom": [{"secretRef": {"name": service.name, "optional": True}}],
        "ports": [{"containerPort": port, "protocol": "TCP"} for port in dict.fromkeys(exposure.expose.api_port)],
        "resources": _resources(exposure, settings),
        "securityContext": user_security(service, settings),
        "volumeMounts": [{"name": "oscar-config", "mountPath": CONFIG, "readOnly": True}],
        **probes(exposure),
    }
    if not exposure.expose.default_command:
        container["command"] = ["/bin/sh", "-c", f"{CONFIG}/{SCRIPT}"]
    return container


def _environment(exposure: Exposure) -> list[Json]:
    """Without what is in the Secret, because `env` would win over it."""
    service = exposure.service
    fixed = {"OSCAR_SERVICE_NAME": service.name, "OSCAR_SERVICE_BASE_PATH": exposure.base_path}
    hidden = {*service.secret_names, TOKEN}
    chosen = {name: literal(value) for name, value in service.variables.items() if name not in hidden}
    return [{"name": name, "value": value} for name, value in {**chosen, **fixed}.items()]


def _resources(exposure: Exposure, settings: KubernetesSettings) -> Json:
    service, ratio = exposure.service, settings.user.request_ratio
    cpu, memory = millicores(service.cpu), size_bytes(service.memory)
    limits = {"cpu": f"{cpu}m", "memory": str(memory)}
    requests = {"cpu": f"{max(1, int(cpu * ratio))}m", "memory": str(max(1, int(memory * ratio)))}
    if service.ephemeral_storage_request:
        requests["ephemeral-storage"] = service.ephemeral_storage_request
    if service.enable_gpu:
        limits[settings.user.gpu_resource] = "1"
    if service.enable_sgx:
        limits[settings.user.sgx_resource] = "1"
    return {"limits": limits, "requests": requests}
