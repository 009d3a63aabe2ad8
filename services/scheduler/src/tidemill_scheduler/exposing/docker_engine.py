"""What the launcher's client of Docker lacks: an end with grace, and what a container wrote."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from tidemill_common.errors import NotFoundError
from tidemill_scheduler.launchers.docker.engine import DockerEngine


class ExposingEngine(DockerEngine):
    """The same connection, with more verbs."""

    @classmethod
    def over(cls, engine: DockerEngine) -> ExposingEngine:
        """The one that is open."""
        return cls(engine._docker, timeout=timedelta(seconds=engine._timeout))

    async def stop(self, name: str, grace: float) -> None:
        """SIGTERM, SIGKILL after `grace` seconds, and remove it; one that is not there is success.

        Raises:
            UnavailableError: Docker does not answer.
        """
        with contextlib.suppress(NotFoundError), self._translated(f"stop container {name}"):
            async with asyncio.timeout(self._timeout + grace):
                await self._docker.containers.container(name).stop(t=round(grace))
        await self.remove(name)

    async def output(self, name: str, lines: int) -> str:
        """Its newest lines, with times.

        Raises:
            NotFoundError: There is no such container.
            UnavailableError: Docker does not answer.
        """
        with self._translated(f"read the log of container {name}"):
            async with asyncio.timeout(self._timeout):
                container = self._docker.containers.container(name)
                found = await container.log(stdout=True, stderr=True, timestamps=True, tail=lines)
        return "".join(found)
