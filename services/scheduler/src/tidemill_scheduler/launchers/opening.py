"""Opens the launcher that the settings name."""

from __future__ import annotations

from tidemill_scheduler.launchers.environment import worker_environment
from tidemill_scheduler.launchers.process import ProcessLauncher
from tidemill_scheduler.ports import Launcher
from tidemill_scheduler.settings import Settings


def launcher_of(settings: Settings) -> Launcher:
    """The launcher that the settings name; the caller closes it."""
    return _process_launcher(settings)


def _process_launcher(settings: Settings) -> ProcessLauncher:
    return ProcessLauncher(
        command=settings.worker.command,
        environment=worker_environment(settings),
        state_dir=settings.state_dir.absolute(),
        workspace_root=settings.workspace_root.absolute(),
        log_dir=settings.log_dir.absolute() / "workers",
    )
