"""Append to a log until it is stored: a Worker has nothing better to do while the bus is away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.contract import Contract, Subject
from tidemill_common.errors import TransientError

log = structlog.get_logger()
M = TypeVar("M", bound=Contract)

_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=2)


async def append_surely(bus_log: Log, subject: Subject[M], body: M, *, key: str, message_id: str) -> None:
    """Return when the record is stored; repeats are one record, by its id. Ends early only by cancellation.

    Raises:
        PermanentError: The bus refuses it.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            await bus_log.append(subject, body, key=key, message_id=message_id)
            return
        except TransientError as error:
            log.warning("append failed, trying again", subject=subject.pattern, error=str(error))
            await asyncio.sleep((error.retry_after or pause).total_seconds())
            pause = min(2 * pause, _LONGEST_PAUSE)
