"""Live messages: NATS core publish and subscribe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.wire import Wire

_KEPT: Final = 4096
"""Messages kept for a reader that is slow; then the oldest are lost."""


class NatsLive:
    """Messages that are seen by whoever listens now."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def publish(self, subject: str, body: bytes) -> None:
        """Tell whoever listens."""
        await self._wire.tell(subject, body)

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """What is published from now on."""
        buffer: deque[tuple[str, bytes]] = deque(maxlen=_KEPT)
        filled = asyncio.Event()

        def take(message: Message) -> None:
            buffer.append((message.subject, message.data))
            filled.set()

        subscription = await self._wire.subscribe(subject, take)
        await self._wire.round_trip()  # from here on the server knows that we listen
        messages = _drain(buffer, filled)
        try:
            yield messages
        finally:
            await messages.aclose()
            await self._wire.unsubscribe(subscription)


async def _drain(buffer: deque[tuple[str, bytes]], filled: asyncio.Event) -> AsyncGenerator[tuple[str, bytes], None]:
    while True:
        await filled.wait()
        while buffer:
            yield buffer.popleft()
        filled.clear()
