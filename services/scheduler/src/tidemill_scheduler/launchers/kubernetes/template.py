"""The Job of a Worker: one pod, two ordinary containers. Pure: equal arguments give equal Jobs.

The names are those of "Workers in containers" in docs/internals.md. Keys are mounted in the supervisor alone; the
containers share nothing but the volume at `WORKSPACE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from tidemill_common.contracts.service import Service
from tidemill_common.runner import runner_command
from tidemill_scheduler.launchers.kubernetes.labels import annotations_of, is_queued, labels_of, spec_annotation
from tidemill_scheduler.launchers.kubernetes.placement import placement_of
from tidemill_scheduler.launchers.kubernetes.security import pod_security, supervisor_security, user_security
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings, PullPolicy
from tidemill_scheduler.launchers.kubernetes.shell_volume import with_shell
from tidemill_scheduler.launchers.shells import DIRECTORY
from tidemill_scheduler.ports import WorkerSpec

Json = dict[str, Any]
WORKSPACE: Final = "/tidemill"
SECRETS: Final = "/run/tidemill/secrets"
BUS: Final = "/run/tidemill/bus"
BUS_FILE: Final = "bus.creds"
RECORD: Final = "record.json"
PLATFORM_SECRET: Final = "tidemill-platform"  # noqa: S105 - the name of an object
_READABLE: Final = 0o444
"""Only the supervisor mounts these; its uid is not root's."""


def service_secret(service: str) -> str:
    """The Secret with a Service's record."""
    return f"tidemill-service-{service}"


def bus_secret(service: str) -> str:
    """The Secret with the bus identity of a Service's Workers."""
    return f"tidemill-bus-{service}"


def job_of(
    worker: WorkerSpec,
    service: Service,
    settings: KubernetesSettings,
    *,
    environment: Mapping[str, str],
    interlink_nodes: Set[str] = frozenset(),
    brings_shell: bool = False,
) -> Json:
    """The Job to create.

    Args:
        environment: Settings of the supervisor, without secrets, as for all Workers.
        interlink_nodes: The virtual nodes that the cluster has.
        brings_shell: Its image is known to have none.
    """
    labels, annotations = labels_of(worker, service, settings), annotations_of(service, settings)
    pod = _pod(worker, service, settings, environment, interlink_nodes)
    if brings_shell:
        pod = with_shell(pod, _command(worker, applets=DIRECTORY), settings)
    spec: Json = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": int(settings.ttl.total_seconds()),
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": pod,
        },
    }
    if settings.deadline is not None:
        spec["activeDeadlineSeconds"] = int(settings.deadline.total_seconds())
    if is_queued(service, settings):
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": worker.id,
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": {**annotations, **spec_annotation(worker)},
        },
        "spec": spec,
    }


def pull_policy(image: str, setting: PullPolicy | None) -> str:
    """Kubernetes' own default, said aloud: a tag that moves is asked for each time."""
    if setting is not None:
        return setting.value
    name = image.rpartition("/")[2]
    moves = "@" not in name and (":" not in name or name.endswith(":latest"))
    return (PullPolicy.ALWAYS if moves else PullPolicy.IF_NOT_PRESENT).value


def pull_secrets(service: Service, settings: KubernetesSettings) -> list[Json]:
    """Secrets to pull images with, each once."""
    names = dict.fromkeys((*service.image_pull_secrets, *settings.image_pull_secrets))
    return [{"name": name} for name in names]


def literal(text: str) -> str:
    """As a command's argument: Kubernetes replaces `$(NAME)` there, and makes one of each `$$`."""
    return text.replace("$", "$$")


def _pod(
    worker: WorkerSpec,
    service: Service,
    settings: KubernetesSettings,
    environment: Mapping[str, str],
    interlink_nodes: Set[str],
) -> Json:
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": False,
        "terminationGracePeriodSeconds": int(settings.termination_grace.total_seconds()),
        "securityContext": pod_security(settings),
        "containers": [
            _supervisor(worker, service, settings, environment),
            _user(worker, service, settings),
        ],
        "volumes": _volumes(service, settings),
        **placement_of(service, settings, interlink_nodes),
    }
    if secrets := pull_secrets(service, settings):
        pod["imagePullSecrets"] = secrets
    return pod


def _supervisor(
    worker: WorkerSpec, service: Service, settings: KubernetesSettings, environment: Mapping[str, str]
) -> Json:
    box = settings.supervisor
    limits = {"cpu": box.cpu_limit, "memory": box.memory_limit}
    own = {
        "TIDEMILL_SUPERVISOR_SERVICE": worker.service,
        "TIDEMILL_SUPERVISOR_WORKER_ID": worker.id,
        "TIDEMILL_SUPERVISOR_WORKSPACE_DIR": WORKSPACE,
        "TIDEMILL_SUPERVISOR_SECRETS_DIR": SECRETS,
        "TIDEMILL_SUPERVISOR_RUNNER": "container",
    }
    plain = [{"name": name, "value": value} for name, value in {**environment, **own}.items()]
    node = {"name": "TIDEMILL_SUPERVISOR_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return {
        "name": "supervisor",
        "image": box.image,
        "imagePullPolicy": pull_policy(box.image, box.pull_policy or settings.user.pull_policy),
        **({"command": list(box.command)} if box.command else {}),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [*plain, node],
        "resources": {
            "requests": {"cpu": box.cpu_request, "memory": box.memory_request},
            "limits": {name: value for name, value in limits.items() if value},
        },
        "securityContext": supervisor_security(settings),
        "volumeMounts": [
            {"name": "workspace", "mountPath": WORKSPACE},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
            {"name": "bus", "mountPath": BUS, "readOnly": True},
        ],
    }


def _user(worker: WorkerSpec, service: Service, settings: KubernetesSettings) -> Json:
    return {
        "name": "user",
        "image": service.image,
        "imagePullPolicy": pull_policy(service.image, settings.user.pull_policy),
        "command": _command(worker),
        "resources": _resources(worker, service, settings),
        "securityContext": user_security(service, settings),
        "volumeMounts": [{"name": "workspace", "mountPath": WORKSPACE}],
    }


def _command(worker: WorkerSpec, *, applets: str | None = None) -> list[str]:
    return [literal(part) for part in runner_command(f"{WORKSPACE}/{worker.id}", applets=applets)]


def _resources(worker: WorkerSpec, service: Service, settings: KubernetesSettings) -> Json:
    ratio = settings.user.request_ratio
    limits = {"cpu": f"{worker.cpu_millicores}m", "memory": str(worker.memory_bytes)}
    requests = {
        "cpu": f"{max(1, int(worker.cpu_millicores * ratio))}m",
        "memory": str(max(1, int(worker.memory_bytes * ratio))),
    }
    if service.ephemeral_storage_request:
        requests["ephemeral-storage"] = service.ephemeral_storage_request
    if service.enable_gpu:
        limits[settings.user.gpu_resource] = "1"
    if service.enable_sgx:
        limits[settings.user.sgx_resource] = "1"
    return {"limits": limits, "requests": requests}


def _volumes(service: Service, settings: KubernetesSettings) -> list[Json]:
    workspace = {"sizeLimit": settings.workspace_size} if settings.workspace_size else {}
    return [
        {"name": "workspace", "emptyDir": workspace},
        {"name": "scratch", "emptyDir": {}},
        {
            "name": "secrets",
            "projected": {
                "defaultMode": _READABLE,
                "sources": [
                    _file(service_secret(service.name), RECORD, f"{service.name}.json", optional=True),
                    _file(PLATFORM_SECRET, RECORD, "platform.json", optional=False),
                ],
            },
        },
        {
            "name": "bus",
            "projected": {
                "defaultMode": _READABLE,
                "sources": [_file(bus_secret(service.name), BUS_FILE, BUS_FILE, optional=True)],
            },
        },
    ]


def _file(secret: str, key: str, path: str, *, optional: bool) -> Json:
    """`optional`: a bus without identities has no Secret; a Service without secrets may have none."""
    return {"secret": {"name": secret, "items": [{"key": key, "path": path}], "optional": optional}}
