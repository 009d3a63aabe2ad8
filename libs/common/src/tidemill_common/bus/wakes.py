"""Wake-ups for the scheduler: soon, and not more often than needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

INTERVAL: Final = 0.05
"""Seconds between two wake-ups of one Service."""


class Wakes:
    """At most one wake-up an interval for each Service; the last `wake` is always followed by one."""

    def __init__(self, send: Callable[[str], Awaitable[None]], interval: float = INTERVAL) -> None:
        self._send = send
        self._interval = interval
        self._due: dict[str, bool] = {}
        """Services in their interval; True: one more wake-up is due at its end."""
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, service: str) -> None:
        """There is work for this Service."""
        if service in self._due:
            self._due[service] = True
            return
        self._due[service] = False
        self._start(service)

    def _start(self, service: str) -> None:
        task = asyncio.create_task(self._serve(service), name="bus-wake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, service: str) -> None:
        while True:
            await self._send(service)
            await asyncio.sleep(self._interval)
            if not self._due[service]:
                del self._due[service]
                return
            self._due[service] = False

    async def close(self) -> None:
        """Send what is due, and end."""
        due = [service for service, again in self._due.items() if again]
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for service in due:
            await self._send(service)
