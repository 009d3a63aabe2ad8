"""Appending Events to EVENTS: the one way in for all Sources."""

from __future__ import annotations

from typing import Final, Protocol

from tidemill_common.bus import Log
from tidemill_common.contracts.event import RECEIVED, ArtifactRef, EventReceived, event_key
from tidemill_storage_bridge.metrics import EVENTS_DUPLICATE, EVENTS_RECEIVED

LARGEST_INLINE_DATA: Final = 32 * 1024
"""Payloads above travel by reference (docs/internals.md)."""


class Payloads(Protocol):
    """Keeps payloads that are too large for the bus."""

    async def put(self, event: EventReceived, data: bytes) -> ArtifactRef:
        """Store it under the Event's id; storing it twice is the same as once."""
        ...


class EventPublisher:
    """Appends Events and waits for the bus's acknowledgement."""

    def __init__(self, log: Log, payloads: Payloads) -> None:
        self._log = log
        self._payloads = payloads

    async def publish(self, event: EventReceived, *, source: str) -> bool:
        """Store one Event, under its id; False: it was known.

        Args:
            source: The Source's name, for metrics.

        Raises:
            TransientError: Not (certainly) stored: repeat with the same Event.
            PermanentError: It cannot be stored.
        """
        if event.data is not None and len(event.data) > LARGEST_INLINE_DATA:
            reference = await self._payloads.put(event, event.data)
            event = event.model_copy(update={"data": None, "data_ref": reference})
        position = await self._log.append(RECEIVED, event, key=event_key(event), message_id=event.id)
        EVENTS_RECEIVED.labels(source).inc()
        if position is None:
            EVENTS_DUPLICATE.labels(source).inc()
        return position is not None
