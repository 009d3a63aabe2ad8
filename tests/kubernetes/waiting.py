"""Waiting for what a cluster does in its own time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from tidemill_common.errors import TransientError


async def until(
    condition: Callable[[], Any], what: str, *, seconds: float, show: Callable[[], str] = lambda: ""
) -> Any:
    """Wait for a condition (a function, or a coroutine function); what it gave.

    An API server that is away for a moment is asked again.

    Args:
        show: More for the message when it did not come true.
    """
    seen: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    value = condition()
                    seen = await value if asyncio.iscoroutine(value) else value
                    if seen:
                        return seen
                except TransientError as error:
                    seen = error
                await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}; at last: {str(seen)[:2000]}\n{show()}")
