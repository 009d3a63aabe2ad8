"""Ask a store again that does not answer: one that restarts, or whose node does, should not cost an Attempt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from tidemill_common.errors import TransientError

log = structlog.get_logger()
T = TypeVar("T")

PAUSES: Final = tuple(timedelta(seconds=seconds) for seconds in (0.5, 1, 2, 4))
"""At most; with what each try takes, a store may be away for about ten seconds."""


async def patiently(step: Callable[[], Awaitable[T]], pauses: Sequence[timedelta]) -> T:
    """What a step gives, which is safe to repeat; tried again after each pause while the other side is away.

    Raises:
        TransientError: It still was after the last pause.
    """
    for pause in pauses:
        try:
            return await step()
        except TransientError as error:
            log.info("store did not answer, trying again", error=str(error))
        await asyncio.sleep(pause.total_seconds() * random.uniform(0.5, 1))
    return await step()
