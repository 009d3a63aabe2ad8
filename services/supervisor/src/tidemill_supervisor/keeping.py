"""Keeps a Lease while its Attempt lasts. Most Attempts are over before a first extension, and cost only a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Lease
from tidemill_common.errors import LeaseLostError, TidemillError
from tidemill_supervisor.ports import Clock

log = structlog.get_logger()

_SHORTEST_PAUSE: Final = timedelta(milliseconds=50)


class LeaseKeeper:
    """Extends a Lease every third of its time, from now on until `stop`; `lost` is called when that is too late."""

    def __init__(self, lease: Lease, clock: Clock, lost: Callable[[], None]) -> None:
        self._lease = lease
        self._clock = clock
        self._lost = lost
        self._extending: asyncio.Task[None] | None = None
        self._timer = self._plan()

    async def stop(self) -> None:
        """Extend it no more."""
        self._timer.cancel()
        if self._extending is not None:
            self._extending.cancel()
            await asyncio.gather(self._extending, return_exceptions=True)

    def _plan(self) -> asyncio.TimerHandle:
        pause = max((self._lease.deadline - self._clock()) / 3, _SHORTEST_PAUSE)
        return asyncio.get_running_loop().call_later(pause.total_seconds(), self._begin)

    def _begin(self) -> None:
        self._extending = asyncio.create_task(self._extend())

    async def _extend(self) -> None:
        try:
            await self._lease.extend()
        except LeaseLostError as error:
            log.warning("lease lost", invocation_id=self._lease.invocation.id, error=str(error))
            self._lost()
            return
        except TidemillError as error:
            log.warning("lease not extended, trying again", error=str(error))
        self._timer = self._plan()
