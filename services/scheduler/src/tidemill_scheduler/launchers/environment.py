"""What Workers are told of the platform: settings of the supervisor, without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tidemill_common.settings import BusSettings
from tidemill_scheduler.settings import Settings, WorkerSettings

_PREFIX: Final = "TIDEMILL_SUPERVISOR_"
RUNNER: Final = f"{_PREFIX}RUNNER"
"""Where user code runs: `process` or `container`."""
CREDENTIALS_FILE: Final = f"{_PREFIX}BUS__CREDENTIALS_FILE"
"""Names the file with a Worker's own identity; set by the launcher that provides the file."""
_IDENTITY: Final = {"credentials_file", "password", "password_file", "user"}
"""Of the scheduler itself."""


def worker_environment(settings: Settings) -> Mapping[str, str]:
    """A Worker's settings, without what differs from one to the next, and without any secret."""
    return {
        **bus_environment(settings.bus, settings.worker, settings.state_dir.absolute()),
        f"{_PREFIX}SECRETS_DIR": str(settings.secrets_dir.absolute()),
        f"{_PREFIX}TELEMETRY__LOG_LEVEL": settings.telemetry.log_level,
        f"{_PREFIX}TELEMETRY__LOG_FORMAT": settings.telemetry.log_format,
        f"{_PREFIX}DRAIN_TIMEOUT": f"PT{settings.worker.drain_timeout.total_seconds():.0f}S",
        **settings.worker.environment,
    }


def bus_environment(bus: BusSettings, worker: WorkerSettings, state_dir: Path) -> dict[str, str]:
    """How Workers reach the bus: the scheduler's way, with the shared identity if they get none of their own."""
    handed_on = bus.model_dump(mode="json", exclude=_IDENTITY, exclude_unset=True)
    environment = {f"{_PREFIX}BUS__{name.upper()}": str(value) for name, value in handed_on.items()}
    environment[f"{_PREFIX}BUS__URL"] = bus.url
    if worker.identity_key_file is None:
        environment |= _shared_identity(bus, worker, state_dir)
    return environment


def _shared_identity(bus: BusSettings, worker: WorkerSettings, state_dir: Path) -> dict[str, str]:
    if worker.bus_user is None and bus.credentials_file is not None:
        return {CREDENTIALS_FILE: str(bus.credentials_file.absolute())}
    environment: dict[str, str] = {}
    user = worker.bus_user or bus.user
    password_file = worker.bus_password_file if worker.bus_user else _password_file(bus, state_dir)
    if user is not None:
        environment[f"{_PREFIX}BUS__USER"] = user
    if password_file is not None:
        environment[f"{_PREFIX}BUS__PASSWORD_FILE"] = str(password_file.absolute())
    return environment


def _password_file(bus: BusSettings, state_dir: Path) -> Path | None:
    """The password as a file: a variable would be seen by everybody on the machine."""
    if bus.password_file is not None or bus.password is None:
        return bus.password_file
    path = state_dir / "bus-password"
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(bus.password.get_secret_value())
    return path
