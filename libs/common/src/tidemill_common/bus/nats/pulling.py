"""Pull requests to one Consumer: asks for so many Messages, and knows for each ask when it is over.

Messages of a pull keep their own subject, so they cannot share the reply inbox: each Pull has an inbox of its own.
It is never asked for more than its owner can take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from nats.aio.subscription import Subscription

from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import InvalidMessageError, NotFoundError, TransientError, UnavailableError

EXPIRES: Final = timedelta(seconds=10)
HEARTBEAT: Final = timedelta(seconds=2)
SILENCE: Final = 2.5 * HEARTBEAT.total_seconds()
"""Seconds without a heartbeat after which the ask is taken as lost."""
_SHORT_ACK_TOKENS: Final = 9


class Origin(NamedTuple):
    """What a delivery's reply subject tells."""

    stream: str
    delivered: int
    """How often it was handed over, this time included."""
    position: int
    sequence: int
    """Number of this hand-over among all of the Consumer's."""
    nanoseconds: int
    pending: int
    """What else waits for this Consumer."""

    @property
    def time(self) -> datetime:
        """When it was stored."""
        return datetime.fromtimestamp(self.nanoseconds / 1_000_000_000, UTC)


def origin_of(reply: str) -> Origin:
    """Read `$JS.ACK.<stream>.<consumer>.…`, in its short form or with domain and account.

    Raises:
        InvalidMessageError: It is something else.
    """
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < _SHORT_ACK_TOKENS:
        raise InvalidMessageError(f"not a delivery: {reply!r}")
    first = 2 if len(tokens) == _SHORT_ACK_TOKENS else 4
    return Origin(tokens[first], *map(int, tokens[first + 2 : first + 7]))


class Pull:
    """One inbox for the answers of one Consumer.

    Args:
        take: Called for each Message; must not wait.
        changed: Called when an ask is over (also by failure); must not wait.
    """

    def __init__(
        self, wire: Wire, stream: str, consumer: str, take: Callable[[Message], None], changed: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._take = take
        self._changed = changed
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._heard = 0.0
        self.asked = 0
        """Messages asked for that have not come yet."""
        self.got = 0
        """Messages that came since the last ask."""
        self.failure: str | None = None
        """Why the server ended the last ask, when it was neither filled nor simply over; the Consumer may be gone."""

    async def _open(self) -> None:
        self._inbox = self._wire.new_inbox()
        self._subscription = await self._wire.subscribe(self._inbox, self._receive)

    async def ask(self, batch: int, *, wait: bool) -> None:
        """Ask for up to `batch` Messages: those that are there now, or with `wait` also those that come."""
        if self._subscription is None:
            await self._open()
        query: dict[str, object] = {"batch": batch, "no_wait": True}
        if wait:
            query = {"batch": batch, "expires": _nanoseconds(EXPIRES), "idle_heartbeat": _nanoseconds(HEARTBEAT)}
        self.asked += batch
        self.got = 0
        self._heard = asyncio.get_running_loop().time()
        await self._wire.tell(self._subject, json.dumps(query).encode(), self._inbox)

    @property
    def is_silent(self) -> bool:
        """Whether the server has been silent for longer than it may while something is asked for."""
        return self.asked > 0 and asyncio.get_running_loop().time() - self._heard > SILENCE

    def _receive(self, message: Message) -> None:
        self._heard = asyncio.get_running_loop().time()
        if (status := message.status) is not None:
            self._note(*status, message.headers)
            return
        self.asked = max(self.asked - 1, 0)
        self.got += 1
        self._take(message)
        if self.asked == 0:
            self._changed()

    def _note(self, status: str, description: str, headers: dict[str, str]) -> None:
        if status == "100":
            return
        if status in {"404", "408"}:
            self.asked = max(self.asked - int(headers.get("Nats-Pending-Messages", self.asked)), 0)
        else:
            self.failure = f"{status} {description}"
            self.asked = 0
        self._changed()

    async def cancel(self) -> None:
        """Take back what is asked for. What the server has sent until then is still taken; returns after it."""
        subscription, self._subscription = self._subscription, None
        self.asked = 0
        if subscription is None:
            return
        try:
            await self._wire.drain(subscription)
        except TransientError as error:
            self.failure = str(error)

    async def close(self) -> None:
        """Drop the inbox and what still comes on it."""
        subscription, self._subscription = self._subscription, None
        self.asked = 0
        self.failure = None
        if subscription is not None:
            await self._wire.unsubscribe(subscription)


def _nanoseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1) * 1000


async def news(woken: asyncio.Event) -> None:
    """Wait until woken, or until it is time to look whether the server is silent."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEARTBEAT.total_seconds()):
            await woken.wait()


async def create_consumer(
    wire: Wire, stream: str, name: str, filter_subject: str, **config: object
) -> dict[str, object]:
    """Create a Consumer, or find it there with the same configuration.

    Raises:
        UnavailableError: The Stream is missing, or the bus does not answer.
    """
    query = {"stream_name": stream, "config": {"name": name, "filter_subject": filter_subject, **config}, "action": ""}
    try:
        return await wire.api(f"CONSUMER.CREATE.{stream}.{name}.{filter_subject}", query)
    except NotFoundError as error:
        raise UnavailableError(f"consumer {name} on {stream}: {error}") from error
