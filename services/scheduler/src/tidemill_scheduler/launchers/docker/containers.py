"""A Worker's user container: what the Docker Engine is told of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tidemill_common.contracts.service import Service
from tidemill_common.quantity import size_bytes
from tidemill_common.runner import runner_command
from tidemill_scheduler.launchers.docker.engine import ContainerState
from tidemill_scheduler.launchers.docker.settings import DockerSettings
from tidemill_scheduler.launchers.shells import DIRECTORY, PROGRAM, SHELL
from tidemill_scheduler.ports import Cause, WorkerSpec

WORKER: Final = "tidemill.io/worker"
INSTALLATION: Final = "tidemill.io/installation"
"""Several platforms may share one Docker host."""
_KILLED: Final = 128 + 9


def container_config(
    worker: WorkerSpec,
    service: Service,
    directory: Path,
    *,
    installation: str,
    settings: DockerSettings,
    shell: Path | None = None,
) -> Mapping[str, Any]:
    """The container of the Service's image in which the Worker's scripts run.

    It gets one directory, its limits and nothing of the platform: no variable, no socket, no key.

    Args:
        shell: For an image without `/bin/sh`: the directory of a static one to bring along.
    """
    return {
        "Image": service.image,
        "Entrypoint": runner_command(str(directory), applets=None if shell is None else DIRECTORY),
        "Cmd": [],
        "Hostname": worker.id[:63],
        "Labels": labels_of(worker, service, installation),
        "Healthcheck": {"Test": ["NONE"]},  # the image's own would look for a server that does not run
        "OpenStdin": False,
        "HostConfig": _host_config(worker, service, settings, [_bind(directory), *_shell_mounts(shell)]),
    }


def labels_of(worker: WorkerSpec, service: Service, installation: str) -> dict[str, str]:
    """The labels of internals.md; a Service's own do not replace them."""
    return {
        **service.labels,
        "app.kubernetes.io/managed-by": "tidemill",
        "app.kubernetes.io/component": "worker",
        "tidemill.io/service": worker.service,
        WORKER: worker.id,
        INSTALLATION: installation,
    }


def _bind(directory: Path) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(directory), "Target": str(directory)}


def _shell_mounts(shell: Path | None) -> list[dict[str, Any]]:
    if shell is None:
        return []
    places = {DIRECTORY: shell, SHELL: shell / PROGRAM}
    return [
        {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True} for target, source in places.items()
    ]


def _host_config(
    worker: WorkerSpec, service: Service, settings: DockerSettings, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Mounts": mounts,
        "NanoCpus": worker.cpu_millicores * 1_000_000,
        "Memory": worker.memory_bytes,
        "MemorySwap": worker.memory_bytes,  # the sum of both, so no swap
        "PidsLimit": settings.pids_limit or -1,
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": list(settings.cap_drop),
        "CapAdd": list(settings.cap_add),
        "NetworkMode": settings.network,
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": settings.read_only,
        "Init": False,  # the loop is process 1
        "AutoRemove": False,  # how it ended is looked at first
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
    }
    if settings.read_only:
        config["Tmpfs"] = {"/tmp": "rw,nosuid,nodev,mode=1777"}
    if settings.runtime is not None:
        config["Runtime"] = settings.runtime
    if settings.storage_limit and service.ephemeral_storage_request:
        config["StorageOpt"] = {"size": str(size_bytes(service.ephemeral_storage_request))}
    if service.enable_gpu:
        config["DeviceRequests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return config


def ending(state: ContainerState | None, exit_code: int | None = None) -> Cause:
    """Why a container that should run does not, in words for people; `exit_code`: from the event, if it is gone."""
    if state is None:
        return Cause("ContainerRemoved", _exit_words(exit_code))
    if state.was_out_of_memory and state.exit_code in (None, 0, _KILLED):
        return Cause("OOMKilled", "the container needed more memory than its limit")
    if state.error:
        return Cause("ContainerCannotRun", state.error)
    return Cause("ContainerEnded", _exit_words(state.exit_code if state.exit_code is not None else exit_code))


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return "nobody can say how"
    if exit_code > 128:
        return f"the user container was killed by signal {exit_code - 128}"
    return f"the user container ended with exit code {exit_code}"
