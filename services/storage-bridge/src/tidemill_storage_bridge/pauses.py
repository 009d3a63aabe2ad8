"""Waiting and working that the component's stop cuts short."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta


async def pause(stopping: asyncio.Event, delay: timedelta) -> None:
    """Return after `delay`, or as soon as the component stops."""
    with suppress(TimeoutError):
        # not wait_for: before Python 3.12 it swallows a cancellation that comes together with the end of the wait
        async with asyncio.timeout(delay.total_seconds()):
            await stopping.wait()


async def stopped(stopping: asyncio.Event) -> None:
    """Return when the component stops."""
    await stopping.wait()


async def until(stopping: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Run `work` until it ends or the component stops; then it is cancelled and has ended."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        working.cancel()
        await asyncio.wait({working, stop})
    if not working.cancelled():
        working.result()


@dataclass(slots=True)
class Backoff:
    """Growing delays with jitter, for one row of failures."""

    first: timedelta
    longest: timedelta
    _next: timedelta | None = field(default=None)

    def next(self, hint: timedelta | None = None) -> timedelta:
        """How long to wait now: what the other side asked for, else half to all of a doubling delay."""
        delay = self._next or self.first
        self._next = min(delay * 2, self.longest)
        return hint or delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well: begin with the first delay again."""
        self._next = None
