"""Starts user containers; those of images without a shell with one that is brought along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, Protocol

import structlog

from tidemill_common.contracts.service import Service
from tidemill_common.errors import TidemillError
from tidemill_scheduler.launchers.shells import ShelllessImages, lacks_shell
from tidemill_scheduler.ports import WorkerSpec

log = structlog.get_logger()


class ContainerStarter(Protocol):
    """Where containers run."""

    async def run(self, name: str, config: Mapping[str, Any]) -> None:
        """Create and start one."""
        ...


class Shell(Protocol):
    """A static shell."""

    async def directory(self) -> Path:
        """A directory with it, to be mounted.

        Raises:
            InvalidInputError: There is none.
        """
        ...


class UserContainers:
    """Those of one Docker host.

    Args:
        host: Runs them.
        config_of: What Docker is told of a Worker's container; the path is that of the shell that it brings along.
        shell: What is brought into images that turn out to have none.
    """

    def __init__(
        self,
        host: ContainerStarter,
        config_of: Callable[[WorkerSpec, Service, Path | None], Mapping[str, Any]],
        shell: Shell,
    ) -> None:
        self._host = host
        self._config_of = config_of
        self._shell = shell
        self._shellless = ShelllessImages()

    async def run(self, worker: WorkerSpec, service: Service) -> None:
        """Create and start a Worker's; an image that turns out to have no shell is tried again with one.

        Raises:
            TidemillError: Docker refuses or does not answer, or there is no shell to bring along; says why.
        """
        if service.image not in self._shellless:
            try:
                await self._host.run(worker.id, self._config_of(worker, service, None))
                return
            except TidemillError as error:
                if not lacks_shell(str(error)):
                    raise
            log.info("image has no shell, its Workers bring one", image=service.image, service=service.name)
            self._shellless.add(service.image)
        await self._host.run(worker.id, self._config_of(worker, service, await self._shell.directory()))

    def keep(self, images: Set[str]) -> None:
        """Forget what is known of all other images."""
        self._shellless.keep(images)
