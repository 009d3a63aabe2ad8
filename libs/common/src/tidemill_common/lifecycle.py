"""Process life: stop on a signal, tasks as long as the process, drain before close."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def stop_on_signals(*signals: signal.Signals) -> AsyncIterator[asyncio.Event]:
    """An event that is set by SIGTERM or SIGINT (or the given signals). Stopping is awaited, not a cancellation."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    wanted = signals or (signal.SIGTERM, signal.SIGINT)
    for number in wanted:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def background(*, stop: Callable[[], None], **tasks: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run tasks beside the body; when one ends early, stop the component.

    Its error surfaces only after the drain, so work in flight is finished first.
    """
    running = [asyncio.create_task(work, name=name) for name, work in tasks.items()]
    for task in running:
        task.add_done_callback(lambda _: stop())
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    if errors := [result for result in results if isinstance(result, Exception)]:
        raise ExceptionGroup("background tasks failed", errors)
