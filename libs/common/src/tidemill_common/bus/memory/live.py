"""Live messages in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tidemill_common.bus.memory.stream import matches

_KEPT: Final = 4096


@dataclass(slots=True, eq=False)
class _Listener:
    pattern: str
    buffer: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    async def messages(self) -> AsyncGenerator[tuple[str, bytes], None]:
        while True:
            await self.filled.wait()
            while self.buffer:
                yield self.buffer.popleft()
            self.filled.clear()


class MemoryLive:
    """Messages that are seen by whoever listens now."""

    def __init__(self) -> None:
        self._listeners: list[_Listener] = []

    async def publish(self, subject: str, body: bytes) -> None:
        """Tell whoever listens."""
        for listener in self._listeners:
            if matches(listener.pattern, subject):
                listener.buffer.append((subject, body))
                listener.filled.set()

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """What is published from now on."""
        listener = _Listener(subject)
        self._listeners.append(listener)
        messages = listener.messages()
        try:
            yield messages
        finally:
            self._listeners.remove(listener)
            await messages.aclose()
