"""Why the user's container ended, or the whole Worker must: `live.cause.<service>.<worker>` (docs/internals.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Live
from tidemill_common.contracts.invocation import ROOM_TAKEN, Reason
from tidemill_supervisor.ports import ContainerEndedError

log = structlog.get_logger()

WAIT: Final = timedelta(seconds=5)
"""The cluster knows within this time; an Attempt's end is not held up for longer."""
_REASONS: Final = {
    "OOMKilled": Reason.OUT_OF_MEMORY,
    **dict.fromkeys(ROOM_TAKEN, Reason.EVICTED),
    **dict.fromkeys(("JobDeleted", "PodDeleted"), Reason.WORKER_LOST),
}
_UNKNOWN: Final = ContainerEndedError(Reason.CONTAINER_ENDED, "the user's container ended; nobody said why")


class Causes:
    """Listens from the start, for a cause may be told before its effect is seen."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._newest = _UNKNOWN
        self._heard = asyncio.Event()

    async def follow(self, live: Live) -> None:
        """Listen, for ever."""
        async with live.subscribe(self._subject) as told:
            async for _, body in told:
                if (cause := ended_by(body)) is not None:
                    self._newest = cause  # who is told twice knows more then
                    self._heard.set()

    def told(self) -> ContainerEndedError | None:
        """What was told so far; None: nothing."""
        return self._newest if self._heard.is_set() else None

    async def first(self, timeout: timedelta = WAIT) -> ContainerEndedError:
        """What was told, after waiting a little for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                await self._heard.wait()
        return self._newest


def ended_by(body: bytes) -> ContainerEndedError | None:
    """The cause in a message; None: it is no such message."""
    try:
        cause = json.loads(body)
        word, message = str(cause["reason"]), str(cause.get("message") or "")
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("a cause was not understood")
        return None
    return ContainerEndedError(_REASONS.get(word, Reason.CONTAINER_ENDED), f"{word}: {message}" if message else word)
