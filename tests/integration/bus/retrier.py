"""A process that stores what Workers ask for, and says how much: to be killed."""

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
    """A queue that says what was planned, before whoever asked for it is told."""

    def __init__(self, queue: WorkQueue) -> None:
        self.submit, self.leases, self.backlog, self.purge = queue.submit, queue.leases, queue.backlog, queue.purge
        self._queue = queue

    async def plan(self, retry: RetryAsked) -> bool:
        stored = await self._queue.plan(retry)
        sys.stdout.write(f"{retry.invocation_id}\n")
        sys.stdout.flush()
        return stored


async def main(url: str) -> None:
    """Store until killed."""
    async with open_bus(BusSettings(url=url), name="retrier") as bus:
        await Retries(replace(bus, queue=_Telling(bus.queue))).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
