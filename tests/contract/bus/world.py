"""A bus under test: connections to it, its time, and what goes on its queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, TypeVar

from tidemill_common.bus import Backlog, Bus, Lease, Leases
from tidemill_common.contracts.contract import EventId, ServiceName
from tidemill_common.contracts.event import EventReceived, Lane
from tidemill_common.contracts.invocation import DeadLetter, Invocation, Reason
from tidemill_common.contracts.retry import RetryAsked
from tidemill_common.settings import BusSettings

T = TypeVar("T")

SERVICE: Final = ServiceName("thumbnails")
PATIENCE: Final = 30.0
"""Seconds after which what should come has not come."""
_NUMBERS: Final = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One bus, with the Streams of `settings` on it."""

    bus: Bus
    settings: BusSettings
    reach: Callable[[BusSettings], AbstractAsyncContextManager[Bus]]
    """Opens one more connection."""
    pass_time: Callable[[timedelta], Awaitable[None]]
    now: Callable[[], datetime]
    quiet: float
    """Seconds in which what should not come would have come."""
    inject: Callable[[ServiceName, Lane, bytes], Awaitable[None]]
    """Puts a body on a work queue as it is."""
    attendant: AsyncExitStack
    """Closed: nobody stores retries any more."""

    @asynccontextmanager
    async def other(self, **changes: Any) -> AsyncIterator[Bus]:
        """Another component's connection, perhaps with other settings."""
        async with self.reach(self.settings.model_copy(update=changes)) as bus:
            yield bus

    @asynccontextmanager
    async def unattended(self) -> AsyncIterator[Bus]:
        """The bus while nobody stores retries."""
        await self.attendant.aclose()
        yield self.bus

    @property
    def lease(self) -> timedelta:
        """How long a Lease lasts here."""
        return self.settings.lease


def event(*, bucket: str = "photos", name: str | None = None) -> EventReceived:
    """A new Event."""
    number = next(_NUMBERS)
    return EventReceived(
        id=EventId(name or f"event-{number}"), source=f"/{bucket}", type="org.example.test", time=datetime.now(UTC)
    )


def invocation(service: ServiceName = SERVICE, *, lane: Lane = Lane.BATCH) -> Invocation:
    """A new Invocation."""
    made = Invocation.of(event(), service=service, owner="me", revision=1, trigger="direct", now=datetime.now(UTC))
    return made.model_copy(update={"lane": lane})


def asked(of: Invocation, *, not_before: datetime | None = None) -> RetryAsked:
    """The third Attempt of an Invocation."""
    return RetryAsked(
        service=of.service,
        lane=of.lane,
        invocation_id=of.id,
        invocation=of.encode(),
        attempt=3,
        failures=2,
        not_before=not_before,
    )


def letter(lease: Lease) -> DeadLetter:
    """The dead letter of a Lease."""
    return DeadLetter(
        invocation=lease.invocation,
        reason=Reason.SCRIPT_FAILED,
        message="exit 1",
        attempts=lease.attempt,
        at=datetime.now(UTC),
    )


async def soon(waited: Awaitable[T]) -> T:
    """What should come."""
    async with asyncio.timeout(PATIENCE):
        return await waited


async def next_of(items: Leases | AsyncIterator[T]) -> Any:
    """The next item; fails when none comes."""
    return await soon(anext(aiter(items)))


async def takes(items: AsyncIterator[T], number: int) -> list[T]:
    """The next items."""
    return [await soon(anext(items)) for _ in range(number)]


async def settles(world: World, backlog: Mapping[ServiceName, Backlog]) -> None:
    """Fails when it never becomes the backlog: for a moment what is asked for is also stored."""
    await until_backlog(world.bus, backlog)


async def until_backlog(bus: Bus, backlog: Mapping[ServiceName, Backlog]) -> None:
    """Return when this is all that waits; fails when it never is."""
    deadline = time.monotonic() + PATIENCE
    while (found := await bus.queue.backlog()) != backlog:
        assert time.monotonic() < deadline, f"the backlog is {found}, and not {backlog}"
        await asyncio.sleep(0.005)


async def nothing_comes(world: World, leases: Leases) -> None:
    """Fails when a Lease comes."""
    coming = asyncio.ensure_future(anext(aiter(leases)))
    done, _ = await asyncio.wait([coming], timeout=world.quiet)
    coming.cancel()
    with suppress(asyncio.CancelledError):
        await coming
    assert not done, "a lease came"
