"""Opens the launcher that the settings name."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill_common.bus import Live
from tidemill_scheduler.identities import IdentityFiles, identities_of
from tidemill_scheduler.launchers.environment import RUNNER, worker_environment
from tidemill_scheduler.launchers.process import ProcessLauncher
from tidemill_scheduler.ports import Launcher
from tidemill_scheduler.settings import Settings


def launcher_of(settings: Settings, live: Live) -> Launcher:
    """The launcher that the settings name; the caller closes it.

    Args:
        live: How Workers in a cluster are asked to drain.
    """
    match settings.launcher:
        case "process":
            return _process_launcher(settings, worker_environment(settings))
        case "docker":
            # Only who uses Docker loads its client.
            from tidemill_scheduler.launchers.docker.opening import open_docker_launcher

            supervisors = _process_launcher(settings, {RUNNER: "container", **worker_environment(settings)})
            return open_docker_launcher(settings, supervisors)
        case "kubernetes":
            # Its client takes 60 MB and a second to load.
            from tidemill_scheduler.launchers.kubernetes.opening import open_kubernetes_launcher

            return open_kubernetes_launcher(settings, live)


def _process_launcher(settings: Settings, environment: Mapping[str, str]) -> ProcessLauncher:
    identities, state_dir = identities_of(settings), settings.state_dir.absolute()
    return ProcessLauncher(
        command=settings.worker.command,
        environment=environment,
        state_dir=state_dir,
        workspace_root=settings.workspace_root.absolute(),
        log_dir=settings.log_dir.absolute() / "workers",
        identities=None if identities is None else IdentityFiles(identities, state_dir / "identities"),
    )
