"""Follows what happens to our containers. After each lost connection all are looked at once; nothing is polled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from tidemill_common.errors import TidemillError
from tidemill_scheduler.launchers.docker.engine import ContainerEvent, DockerEngine, moment

log = structlog.get_logger()


class Watch:
    """The stream of events of our containers.

    Args:
        engine: Closed with this.
        label: Of our containers, `name=value`.
        reconnect: Pause between attempts to reach an Engine that is away.
    """

    def __init__(self, engine: DockerEngine, *, label: str, reconnect: timedelta) -> None:
        self._engine = engine
        self._label = label
        self._reconnect = reconnect.total_seconds()
        self._contact = asyncio.Event()
        self.trouble: str | None = None
        """Why Docker cannot be used now; None: it answers."""

    async def first_contact(self) -> None:
        """Return when it is known whether Docker answers."""
        await self._contact.wait()

    async def run(
        self,
        reconcile: Callable[[Sequence[str]], Awaitable[None]],
        take: Callable[[ContainerEvent], Awaitable[None]],
    ) -> None:
        """Follow for as long as this runs.

        Args:
            reconcile: Called with the names of all our containers whenever the connection was made (again).
            take: Called with each event.
        """
        while True:
            try:
                await self._follow(reconcile, take)
                self._note("the connection to Docker was lost")
            except TidemillError as error:
                self._note(str(error))
            await asyncio.sleep(self._reconnect)

    async def close(self) -> None:
        """Close the Engine's connections."""
        await self._engine.close()

    async def _follow(
        self,
        reconcile: Callable[[Sequence[str]], Awaitable[None]],
        take: Callable[[ContainerEvent], Awaitable[None]],
    ) -> None:
        since = moment(await self._engine.info())  # its clock; events from before the look are told again, harmlessly
        await reconcile(await self._engine.containers(self._label))
        if self.trouble is not None:
            log.info("docker answers again")
        self.trouble = None
        self._contact.set()
        async with contextlib.aclosing(self._engine.events(self._label, since=since)) as events:
            async for event in events:
                await take(event)

    def _note(self, trouble: str) -> None:
        if self.trouble is None:
            log.warning("docker does not answer", error=trouble)
        self.trouble = trouble
        self._contact.set()
