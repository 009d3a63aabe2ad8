"""A process that stores what Workers ask for, and stops when it has stored enough, before it says so: to be killed."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

from tidemill_common.bus import WorkQueue
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.retry import RetryAsked
from tidemill_common.settings import BusSettings
from tidemill_storage_bridge.retrying import Retries


class _Telling:
    """A queue that says what was planned, before whoever asked for it is told, and plans no more than it may."""

    def __init__(self, queue: WorkQueue, most: int) -> None:
        self.submit, self.leases, self.backlog, self.purge = queue.submit, queue.leases, queue.backlog, queue.purge
        self._queue = queue
        self._left = most
        self._one_at_a_time = asyncio.Lock()

    async def plan(self, retry: RetryAsked) -> bool:
        async with self._one_at_a_time:
            stored = await self._queue.plan(retry)
            if stored:
                self._left -= 1
                sys.stdout.write(f"{retry.invocation_id}\n")
                sys.stdout.flush()
            if not self._left:
                await asyncio.Event().wait()
            return stored


async def main(url: str, most: str) -> None:
    """Store so many, and wait to be killed."""
    async with open_bus(BusSettings(url=url), name="retrier") as bus:
        await Retries(replace(bus, queue=_Telling(bus.queue, int(most)))).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
