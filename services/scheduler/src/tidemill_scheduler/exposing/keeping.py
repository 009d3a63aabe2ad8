"""Keeps one instance of an exposed Service running: started again when it ends, after a pause that grows."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Final

import structlog

from tidemill_common.errors import TidemillError
from tidemill_scheduler.exposing.domain import Exposure, Observation
from tidemill_scheduler.exposing.health import Health, pause_before_restart
from tidemill_scheduler.exposing.ports import OnChange

log = structlog.get_logger()
HOST: Final = "127.0.0.1"
"""Where instances on this machine listen."""
_STABLE_SECONDS: Final = 60.0
"""An instance that ran this long before it ended is started again at once."""


class Keeper(ABC):
    """Works from its making until it is told to leave."""

    def __init__(self, exposure: Exposure, *, on_change: OnChange, is_present: bool) -> None:
        self.exposure = exposure
        self.observation = Observation(present=1 if is_present else 0)
        self._on_change = on_change
        self._task = asyncio.create_task(self._keep(), name=f"expose {exposure.name}")

    async def leave(self) -> None:
        """Watch no more; the instance goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def _run_once(self) -> str:
        """Start an instance if there is none, and return why it is no more."""

    async def _keep(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                reason = await self._run_once()
            except TidemillError as error:
                reason = str(error)
            failures = 1 if time.monotonic() - begun >= _STABLE_SECONDS else failures + 1
            self._show(Observation(reason=reason, is_broken=True))
            pause = pause_before_restart(failures)
            log.warning("exposed service ended", service=self.exposure.name, reason=reason, next_try_seconds=pause)
            await asyncio.sleep(pause)

    def _show_start(self) -> None:
        """It is there; what was wrong before is shown until it answers."""
        before = self.observation
        self._show(Observation(present=1, reason=before.reason, is_broken=before.is_broken))

    def _show_health(self, health: Health, ready: Observation) -> None:
        if health.is_ready:
            self._show(ready)
        elif health.has_answered:
            self._show(Observation(present=1, reason="does not answer the health probe", is_broken=True))

    def _show(self, observation: Observation) -> None:
        if observation != self.observation:
            self.observation = observation
            self._on_change()
