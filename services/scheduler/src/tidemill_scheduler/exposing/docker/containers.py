"""What Docker is told of the container of an exposed Service, and what its labels tell us again."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.quantity import millicores, size_bytes
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.keeping import HOST
from tidemill_scheduler.launchers.docker.engine import ContainerState
from tidemill_scheduler.launchers.docker.settings import DockerSettings

SCRIPT: Final = "/oscar/config/script.sh"
INSTALLATION: Final = "tidemill.io/exposed-installation"
"""Not the Workers' label: what has that one and no Worker is removed."""
SERVICE: Final = "tidemill.io/service"
_VERSION: Final = "tidemill.io/version"
_PORT: Final = "tidemill.io/port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One that was started."""

    name: str
    service: ServiceName
    version: str
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where containers run, the same for all."""

    scripts: Path
    """A folder for each Service with its script, which containers see."""
    installation: str
    settings: DockerSettings


def config_of(
    container: Container, exposure: Exposure, secret_values: Mapping[str, str], site: Site
) -> Mapping[str, Any]:
    """What Docker is told."""
    service, exposed = exposure.service, f"{exposure.port}/tcp"
    fixed = {"OSCAR_SERVICE_NAME": service.name, "OSCAR_SERVICE_BASE_PATH": exposure.base_path}
    environment = {**service.variables, **secret_values, **fixed}
    config: dict[str, Any] = {
        "Image": service.image,
        "Hostname": container.name[:63],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {
            **service.labels,
            "app.kubernetes.io/managed-by": "tidemill",
            "app.kubernetes.io/component": "exposed",
            SERVICE: service.name,
            INSTALLATION: site.installation,
            _VERSION: container.version,
            _PORT: str(container.port),
        },
        "ExposedPorts": {exposed: {}},
        "OpenStdin": False,
        "HostConfig": _host_config(container, exposure, site),
    }
    if not exposure.expose.default_command:
        config |= {"Entrypoint": ["/bin/sh", "-c", SCRIPT], "Cmd": []}
    return config


def _host_config(container: Container, exposure: Exposure, site: Site) -> dict[str, Any]:
    service, settings = exposure.service, site.settings
    memory = size_bytes(service.memory)
    config: dict[str, Any] = {
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(script_path(site.scripts, exposure)),
                "Target": SCRIPT,
                "ReadOnly": True,
            }
        ],
        "PortBindings": {f"{exposure.port}/tcp": [{"HostIp": HOST, "HostPort": str(container.port)}]},
        "NanoCpus": millicores(service.cpu) * 1_000_000,
        "Memory": memory,
        "MemorySwap": memory,  # the sum of both, so no swap
        "PidsLimit": settings.pids_limit or -1,
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": list(settings.cap_drop),
        "CapAdd": list(settings.cap_add),
        "NetworkMode": "bridge" if settings.network in ("none", "host") else settings.network,
        "Privileged": False,
        "Init": True,  # a server that is process 1 would not get SIGTERM
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "2"}},
    }
    if settings.runtime is not None:
        config["Runtime"] = settings.runtime
    if service.enable_gpu:
        config["DeviceRequests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return config


def script_path(scripts: Path, exposure: Exposure) -> Path:
    """One file for each version: a running container keeps the one that it was started with."""
    return scripts / exposure.name / f"{exposure.version}.sh"


def write_script(scripts: Path, exposure: Exposure) -> None:
    """Write this version's script, and remove those of others."""
    path = script_path(scripts, exposure)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(exposure.service.script)
    path.chmod(0o777)
    for other in path.parent.glob("*.sh"):
        if other != path:
            other.unlink()


def container_of(state: ContainerState) -> Container | None:
    """The one that these labels were written for; None: something else."""
    labels = state.labels
    if not (labels.get(SERVICE) and labels.get(_VERSION) and labels.get(_PORT, "").isdigit()):
        return None
    return Container(
        name=state.name, service=ServiceName(labels[SERVICE]), version=labels[_VERSION], port=int(labels[_PORT])
    )


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
