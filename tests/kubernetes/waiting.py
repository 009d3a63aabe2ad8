"""Waiting for what a cluster does in its own time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any


async def until(
    condition: Callable[[], Any], what: str, *, seconds: float, show: Callable[[], str] = lambda: ""
) -> Any:
    """Wait for a condition (a function, or a coroutine function); what it gave.

    Args:
        show: More for the message when it did not come true.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                value = condition()
                if asyncio.iscoroutine(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}\n{show()}")
