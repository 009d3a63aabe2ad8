"""Starts of Workers side by side: in a cluster each one waits for a write of the API, and a plan may have thousands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

from tidemill_scheduler.domain.snapshot import Start


async def start_all(starts: Iterable[Start], start: Callable[[Start], Awaitable[None]], *, most: int) -> None:
    """Begin them in their order, at most so many at a time; returns when all have ended.

    Raises:
        Exception: What the first that failed raised; no further one was begun, and those that had begun were cancelled.
    """
    left = iter(starts)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(_work_off(left, start))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _work_off(left: Iterator[Start], start: Callable[[Start], Awaitable[None]]) -> None:
    for each in left:
        await start(each)
