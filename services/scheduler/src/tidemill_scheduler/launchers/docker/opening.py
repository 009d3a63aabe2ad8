"""Puts the docker launcher together."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill_common.contracts.contract import WorkerId
from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.docker.containers import INSTALLATION, container_config
from tidemill_scheduler.launchers.docker.engine import open_engine
from tidemill_scheduler.launchers.docker.images import Images
from tidemill_scheduler.launchers.docker.launcher import DockerLauncher
from tidemill_scheduler.launchers.docker.registries import config_file
from tidemill_scheduler.launchers.docker.static_shell import StaticShell
from tidemill_scheduler.launchers.docker.user_containers import UserContainers
from tidemill_scheduler.launchers.docker.watching import Watch
from tidemill_scheduler.launchers.records import WorkerRecords
from tidemill_scheduler.ports import Launcher, WorkerSpec
from tidemill_scheduler.settings import Settings


def open_docker_launcher(settings: Settings, supervisors: Launcher) -> DockerLauncher:
    """The docker launcher; connects when it adopts.

    Args:
        supervisors: Starts supervisors on this machine, with user code in containers.
    """
    docker, state_dir, root = settings.docker, settings.state_dir.absolute(), settings.workspace_root.absolute()
    installation = installation_id(state_dir)
    engine = open_engine(docker.host, timeout=docker.timeout)
    records = WorkerRecords(state_dir / "workers")

    def directory_of(worker: WorkerId) -> Path:
        return root / worker

    def config_of(worker: WorkerSpec, service: Service, shell: Path | None) -> Mapping[str, Any]:
        return container_config(
            worker, service, directory_of(worker.id), installation=installation, settings=docker, shell=shell
        )

    return DockerLauncher(
        supervisors=supervisors,
        host=engine,
        images=Images(engine, docker.pull, docker.config_file or config_file()),
        watch=Watch(engine, label=f"{INSTALLATION}={installation}", reconnect=docker.reconnect),
        containers=UserContainers(engine, config_of, StaticShell(docker.shell, state_dir / "shell")),
        directory_of=directory_of,
        wanted=lambda services: {one.image for one in services if docker.prefetch or one.image_prefetch},
        known=lambda: frozenset(record.spec.id for record in records.all()),
    )


def installation_id(state_dir: Path) -> str:
    """What tells this platform's containers from others on the same host; made once."""
    path = state_dir / "docker-installation"
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return path.read_text().strip()
