"""The same work for many items, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

T = TypeVar("T")


async def each(items: Collection[T], work: Callable[[T], Awaitable[None]], *, concurrency: int) -> None:
    """Await `work` for all items, begun in their order; returns when all have ended.

    Raises:
        Exception: The first error, as it is; no further item was begun, and those under way were cancelled.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(items))):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
