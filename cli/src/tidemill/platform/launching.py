"""How the embedded platform runs user code: as processes, or in containers of a Docker Engine; remembered."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from tidemill.platform.layout import Layout, read_model, write_private

_PREFIX: Final = "TIDEMILL_SCHEDULER_"


class Launcher(StrEnum):
    """Where user code runs."""

    PROCESS = "process"
    DOCKER = "docker"


class Pull(StrEnum):
    """When images are pulled."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class Launching(BaseModel):
    """What was chosen for a directory."""

    model_config = ConfigDict(frozen=True)

    launcher: Launcher = Launcher.PROCESS
    pull: Pull = Pull.MISSING

    def environment(self) -> dict[str, str]:
        """The scheduler's variables."""
        return {f"{_PREFIX}LAUNCHER": self.launcher.value, f"{_PREFIX}DOCKER__PULL": self.pull.value}


def kept(layout: Layout, environment: Mapping[str, str]) -> Launching:
    """What holds: what was chosen last, and above it the scheduler's own variable."""
    stored, wanted = _stored(layout), environment.get(f"{_PREFIX}LAUNCHER")
    return stored if wanted not in set(Launcher) else stored.model_copy(update={"launcher": Launcher(wanted)})


def choose(layout: Layout, launcher: Launcher | None, pull: Pull | None) -> None:
    """Choose for this start and later ones; what is None stays as it was."""
    given = {name: value for name, value in (("launcher", launcher), ("pull", pull)) if value is not None}
    if given:
        write_private(_file(layout), _stored(layout).model_copy(update=given).model_dump_json(indent=2))


def _stored(layout: Layout) -> Launching:
    return read_model(_file(layout), Launching) or Launching()


def _file(layout: Layout) -> Path:
    return layout.root / "launcher.json"


async def check_docker(environment: Mapping[str, str]) -> str:
    """The version and address of the Engine that the docker launcher uses.

    Raises:
        CliError: It cannot be reached, or runs on another machine; says what to do.
    """
    from tidemill.platform import docker  # half a second, and most commands do not need it

    return await docker.check(environment)


async def remove_containers(layout: Layout, environment: Mapping[str, str]) -> int:
    """Remove the containers of Workers that nobody looks after any more; how many there were."""
    installation = layout.state / "scheduler" / "docker-installation"
    if not installation.is_file():
        return 0
    from tidemill.platform import docker

    return await docker.remove(installation.read_text().strip(), environment)
