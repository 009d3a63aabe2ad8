"""Tells the scheduler how busy this Worker is: on each change, and every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import islice
from typing import Final

import msgspec
import structlog

from tidemill_common.bus import Live
from tidemill_common.errors import TidemillError
from tidemill_supervisor.reporting import Execution

log = structlog.get_logger()

INTERVAL: Final = timedelta(seconds=5)
_TOLD: Final = 256
_AT_ONCE: Final = 10
_SPAN_SECONDS: Final = 0.25
"""At most ten tellings in a quarter of a second: resident scripts begin and end thousands of Invocations a second."""


class Presence:
    """Publishes `{"busy": n, "slots": n, "invocations": [{"id", "attempt", "revision"}]}`, several changes at once.

    Args:
        running: What it holds; at most 256 are told, so that its scheduler can say what it ran if it vanishes.
    """

    def __init__(
        self,
        live: Live,
        subject: str,
        *,
        slots: int,
        busy: Callable[[], int],
        running: Callable[[], Iterable[Execution]],
    ) -> None:
        self._live = live
        self._subject = subject
        self._slots = slots
        self._busy = busy
        self._running = running
        self._changed = asyncio.Event()
        self._times: deque[float] = deque(maxlen=_AT_ONCE)

    def changed(self) -> None:
        """Tell it soon."""
        self._changed.set()

    def report(self) -> bytes:
        """What is told."""
        invocations = [
            {"id": execution.invocation.id, "attempt": execution.attempt, "revision": execution.revision}
            for execution in islice(self._running(), _TOLD)
        ]
        return msgspec.json.encode({"busy": self._busy(), "slots": self._slots, "invocations": invocations})

    def _pause(self) -> float:
        """Seconds until it may be told again."""
        now = time.monotonic()
        self._times.append(now)
        return max(self._times[0] + _SPAN_SECONDS - now, 0) if len(self._times) == _AT_ONCE else 0

    async def tell(self) -> None:
        """Publish, for ever."""
        while True:
            self._changed.clear()
            try:
                await self._live.publish(self._subject, self.report())
            except TidemillError as error:
                log.warning("presence not told", error=str(error))
            await asyncio.sleep(self._pause())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL.total_seconds()):
                    await self._changed.wait()
