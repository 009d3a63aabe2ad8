"""Tells the scheduler how busy this Worker is: on each change, and every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Live
from tidemill_common.contracts.contract import ServiceName, WorkerId, subject_token
from tidemill_common.errors import TidemillError

log = structlog.get_logger()

INTERVAL: Final = timedelta(seconds=5)


def presence_subject(service: ServiceName, worker: WorkerId) -> str:
    """Where one Worker tells of itself."""
    return f"live.worker.{subject_token(service)}.{subject_token(worker)}"


class Presence:
    """Publishes `{"busy": n, "slots": n}`; several changes at once are told once."""

    def __init__(self, live: Live, subject: str, *, slots: int, busy: Callable[[], int]) -> None:
        self._live = live
        self._subject = subject
        self._slots = slots
        self._busy = busy
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Tell it soon."""
        self._changed.set()

    async def tell(self) -> None:
        """Publish, for ever."""
        while True:
            self._changed.clear()
            body = json.dumps({"busy": self._busy(), "slots": self._slots}).encode()
            try:
                await self._live.publish(self._subject, body)
            except TidemillError as error:
                log.warning("presence not told", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL.total_seconds()):
                    await self._changed.wait()
