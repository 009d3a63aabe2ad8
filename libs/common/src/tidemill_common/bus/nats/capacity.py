"""Back-pressure of the work queue. A Stream with schedules cannot refuse when it is full (the server says so: "message
scheduling cannot use discard new"), and to drop the oldest is out of the question. So the Streams have no limit, and
whoever submits looks how full they are, once a second and exactly where the limit is near. Retries are never refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tidemill_common.bus.addresses import work_stream
from tidemill_common.bus.nats.faults import FULL_RETRY_AFTER
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import ThrottledError
from tidemill_common.settings import BusSettings

_FRESH: Final = 1.0
_FRESH_WHEN_FULL: Final = 0.05
_OVERHEAD_BYTES: Final = 250
"""What a stored message costs beside its body: subject, headers, the store's own record."""


@dataclass(slots=True)
class _Level:
    messages: int = 0
    bytes: int = 0
    looked: float = float("-inf")


class Capacity:
    """How full each shard is, as far as this process knows."""

    def __init__(self, wire: Wire, settings: BusSettings) -> None:
        self._wire = wire
        self._most_messages = max(settings.work_max_messages // settings.shards, 1)
        self._most_bytes = max(settings.work_max_bytes // settings.shards, 1)
        self._levels = [_Level() for _ in range(settings.shards)]
        self._locks = [asyncio.Lock() for _ in range(settings.shards)]

    async def admit(self, shard: int, size_bytes: int) -> None:
        """Count one more message.

        Raises:
            ThrottledError: The shard is full.
            UnavailableError: The bus does not answer.
        """
        level, now = self._levels[shard], asyncio.get_running_loop().time()
        if now - level.looked > (_FRESH_WHEN_FULL if self._is_full(level) else _FRESH):
            await self._look(shard)
        if self._is_full(level):
            raise ThrottledError(f"{work_stream(shard)} is full", retry_after=FULL_RETRY_AFTER)
        level.messages += 1
        level.bytes += size_bytes + _OVERHEAD_BYTES

    def _is_full(self, level: _Level) -> bool:
        return level.messages >= self._most_messages or level.bytes >= self._most_bytes

    async def _look(self, shard: int) -> None:
        asked = asyncio.get_running_loop().time()
        async with self._locks[shard]:
            level = self._levels[shard]
            if level.looked >= asked:
                return  # somebody looked while we waited
            state = (await self._wire.api(f"STREAM.INFO.{work_stream(shard)}"))["state"]
            level.messages, level.bytes = int(state["messages"]), int(state["bytes"])
            level.looked = asyncio.get_running_loop().time()
