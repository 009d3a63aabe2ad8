"""What stores the retries that Workers ask for: the storage-bridge's part, beside a bus that a test uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidemill_common.bus import Bus
from tidemill_storage_bridge.retrying import Retries


@asynccontextmanager
async def storing_retries(bus: Bus) -> AsyncIterator[None]:
    """As long as the test needs it."""
    stopping = asyncio.Event()
    task = asyncio.create_task(Retries(bus).run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await task
