"""Labels and annotations of what belongs to a Worker: OSCAR's set, ours, and what queues want."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.ports import WorkerSpec

MANAGED: Final = {"app.kubernetes.io/managed-by": "tidemill"}
WORKER: Final = {**MANAGED, "app.kubernetes.io/component": "worker"}
SERVICE_LABEL: Final = "tidemill.io/service"
WORKER_LABEL: Final = "tidemill.io/worker"
SPEC_ANNOTATION: Final = "tidemill.io/worker-spec"
"""What the scheduler booked, so that the next one can adopt the Worker from its Job alone."""
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
ADMIN: Final = "cluster_admin"
_LABEL_LENGTH: Final = 63
_OWNER_LENGTH: Final = 62
_UID: Final = re.compile(r"^([0-9a-fA-F]+)@.+$")


def selector(labels: Mapping[str, str]) -> str:
    """As a label selector."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def labels_of(worker: WorkerSpec, service: Service, settings: KubernetesSettings) -> dict[str, str]:
    """Labels of the Job and its pod. Ours win over the user's: the launcher finds its Workers by them."""
    return {
        **{name: label_value(value) for name, value in service.labels.items()},
        **settings.labels,
        **_oscar_labels(service),
        **_queue_labels(service, settings),
        **WORKER,
        SERVICE_LABEL: service.name,
        WORKER_LABEL: worker.id,
    }


def annotations_of(service: Service, settings: KubernetesSettings) -> dict[str, str]:
    """Annotations of the Job and its pod."""
    return {**service.annotations, **settings.annotations}


def spec_annotation(worker: WorkerSpec) -> dict[str, str]:
    """What makes the Worker known again."""
    return {SPEC_ANNOTATION: json.dumps(asdict(worker), separators=(",", ":"))}


def spec_of(job: Mapping[str, Any]) -> WorkerSpec | None:
    """The Worker that a Job was made for; None: it is no Job of ours, or of a version we cannot read."""
    text = job["metadata"].get("annotations", {}).get(SPEC_ANNOTATION)
    try:
        return None if text is None else WorkerSpec(**json.loads(text))
    except (ValueError, TypeError):
        return None


def is_queued(service: Service, settings: KubernetesSettings) -> bool:
    """Whether Kueue admits its Jobs (OSCAR: those of all but the admin)."""
    return settings.kueue and service.owner != ADMIN


def local_queue_of(service: Service, settings: KubernetesSettings) -> str:
    """The queue that its Jobs name."""
    return settings.kueue_queue.format(service=service.name, owner=_object_name(service.owner))


def cluster_queue_of(service: Service, settings: KubernetesSettings) -> str:
    """The ClusterQueue that its own queue leads to."""
    return settings.kueue_cluster_queue.format(service=service.name, owner=_object_name(service.owner))


def label_value(text: str) -> str:
    """`text` as a label may have it: at most 63 of `[A-Za-z0-9._-]`, a letter or digit at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:_LABEL_LENGTH].strip("._-")


def _oscar_labels(service: Service) -> dict[str, str]:
    """https://docs.oscar.grycap.net: what dashboards and clean-up scripts of OSCAR select by."""
    owner = _formatted(service.owner)
    found = {
        "oscar_service": service.name,
        "applicationId": service.name,
        "oscar.grycap/user-service": "true",
        "oscar.grycap/job-owner": owner,
        "owner_name": owner,
        "vo": label_value(service.vo),
        "uid": "" if service.owner == ADMIN else owner,
    }
    return {name: value for name, value in found.items() if value}


def _object_name(owner: str) -> str:
    """An owner as part of the name of an object."""
    return re.sub(r"[^a-z0-9-]", "-", _formatted(owner).lower()).strip("-")


def _formatted(owner: str) -> str:
    """What is before `@` where that is a hexadecimal uid, cut to what a label holds."""
    match = _UID.match(owner)
    return label_value(match[1] if match else owner)[:_OWNER_LENGTH].strip("._-")


def _queue_labels(service: Service, settings: KubernetesSettings) -> dict[str, str]:
    found = {}
    if is_queued(service, settings):
        found[QUEUE_LABEL] = local_queue_of(service, settings)
    if settings.yunikorn:
        found["queue"] = f"root.oscar-queue.{service.name}"
    return found
