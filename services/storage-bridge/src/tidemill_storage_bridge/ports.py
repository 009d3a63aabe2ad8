"""What the storage-bridge's use cases need from outside, beside the bus and storage ports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol

from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.service import ServiceDefined
from tidemill_common.storage import ObjectStore

Publish = Callable[[EventReceived], Awaitable[bool]]
"""Append one Event to EVENTS and wait until the bus has acknowledged it; False: it was known already (that is success).

Raises TransientError when it may be tried again with the same Event, PermanentError when the Event can never be stored.
"""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class Source(Protocol):
    """Turns one technology's notifications into Events.

    The order of effects is always: parse, derive the id, publish (acknowledged), and only then settle with the
    technology: move the cursor, answer 2xx.
    """

    @property
    def name(self) -> str:
        """For logs and metrics."""
        ...

    async def run(self, publish: Publish, stopping: asyncio.Event) -> None:
        """Feed Events to `publish` until `stopping`; then take nothing new, finish what is in flight, and return.

        Failures of the technology are the Source's own business: it waits and connects again.
        """
        ...


class Stores(Protocol):
    """Opens the stores that Services read from."""

    def open(self, provider: str, definition: ServiceDefined | None = None) -> AbstractAsyncContextManager[ObjectStore]:
        """The store of this name as this Service (None: the platform) may use it.

        Raises:
            NotFoundError: On entering: there are no credentials for it.
            InvalidInputError, UnsupportedError: On entering: they are wrong, or no adapter knows its kind.
        """
        ...
