"""Accepts calls: the Event is on the bus, acknowledged, before the caller hears anything; `/run` then waits."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from tidemill_common.bus import Live, Log
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import RECEIVED, EventReceived, Lane
from tidemill_common.contracts.invocation import TERMINAL, Change, InvocationChanged, Reason, changed_subject
from tidemill_common.errors import InvalidMessageError, ThrottledError
from tidemill_gateway.domain.acceptance import Call, Identified, identify, to_event
from tidemill_gateway.ports import PayloadStore

log = structlog.get_logger(__name__)


def fresh_id() -> str:
    """32 hexadecimal characters, later ones greater: 48 bits of milliseconds, 80 of chance."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class TooManyCallsError(ThrottledError):
    """As many callers wait as may; says of what."""


class Replies:
    """Those who wait for an Invocation's end in this process, found by its id."""

    def __init__(self, live: Live, gateway_id: str, *, limit: int, service_limit: int | None = None) -> None:
        self._live = live
        self._limit = limit
        self._service_limit = limit if service_limit is None else service_limit
        self._of_service: Counter[str] = Counter()
        self._waiting: dict[InvocationId, set[asyncio.Future[InvocationChanged]]] = {}
        self._prefix = f"live.reply.{gateway_id}"

    def subject(self, invocation: InvocationId) -> str:
        """Where the Worker answers."""
        return f"{self._prefix}.{invocation}"

    @contextmanager
    def expect(self, invocation: InvocationId, service: str = "") -> Iterator[asyncio.Future[InvocationChanged]]:
        """A future of the Invocation's terminal record.

        Raises:
            TooManyCallsError: Too many wait already, of this Service or of all.
        """
        self._check(service)
        self._of_service[service] += 1
        future: asyncio.Future[InvocationChanged] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(invocation, set())
        waiting.add(future)
        try:
            yield future
        finally:
            self._of_service[service] -= 1
            if not self._of_service[service]:
                del self._of_service[service]
            future.cancel()
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(invocation, None)

    def _check(self, service: str) -> None:
        for waiting, limit, what in (
            (self._of_service[service], self._service_limit, f"service {service}"),
            (len(self._waiting), self._limit, "this gateway"),
        ):
            if waiting >= limit:
                said = f"{what} has {waiting} callers that wait for an answer"
                raise TooManyCallsError(said, retry_after=timedelta(seconds=1))

    def settle(self, record: InvocationChanged) -> None:
        """Tell whoever waits; from the Worker's live reply and from LIFECYCLE, whichever is first."""
        waiting = self._waiting.get(record.invocation_id)
        if waiting is None or record.change not in TERMINAL:
            return
        for future in waiting:
            if not future.done():
                future.set_result(record)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Listen to live replies, until cancelled."""
        async with self._live.subscribe(f"{self._prefix}.*") as messages:
            if ready is not None:
                ready.set()
            async for _, body in messages:
                try:
                    self.settle(InvocationChanged.decode(body))
                except InvalidMessageError as error:
                    log.warning("live reply is not a record", error=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A call that is on the bus."""

    invocation: InvocationId
    user: str | None
    """Who uploaded the object that the call told of."""
    address: str | None
    repeated: bool
    """It was there before."""


class Calls:
    """Puts calls on the bus."""

    def __init__(
        self,
        *,
        bus_log: Log,
        payloads: PayloadStore,
        inline_limit_bytes: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        fresh: Callable[[], str] = fresh_id,
    ) -> None:
        self._log = bus_log
        self._payloads = payloads
        self._inline_limit = inline_limit_bytes
        self._now = now
        self._fresh = fresh

    def identify(self, call: Call) -> Identified:
        """The call's ids, before it is accepted."""
        return identify(call, self._fresh())

    async def accept(
        self,
        identified: Identified,
        *,
        lane: Lane = Lane.BATCH,
        deadline: datetime | None = None,
        reply_to: str | None = None,
    ) -> Accepted:
        """Store the call's Event and wait for the bus's acknowledgement.

        Raises:
            TransientError: It is not (certainly) stored; the caller may repeat it.
        """
        call = identified.call
        stored = None
        if len(call.body) > self._inline_limit:
            stored = await self._payloads.put(identified.event_id, call.body, call.content_type)
        event = to_event(identified, now=self._now(), lane=lane, stored=stored, deadline=deadline, reply_to=reply_to)
        position = await self._append(event)
        notification = identified.notification
        return Accepted(
            invocation=identified.invocation,
            user=notification.principal if notification else None,
            address=notification.address if notification else None,
            repeated=position is None,
        )

    async def _append(self, event: EventReceived) -> int | None:
        return await self._log.append(RECEIVED, event, key=event.service or "", message_id=event.id)

    async def abandon(self, identified: Identified, reason: Reason, message: str) -> None:
        """Cancel an Invocation whose caller does not wait any more; the first terminal record wins."""
        record = InvocationChanged(
            invocation_id=identified.invocation,
            service=identified.call.service.name,
            change=Change.CANCELLED,
            at=self._now(),
            owner=identified.call.service.owner,
            reason=reason,
            message=message,
            event_id=identified.event_id,
        )
        subject = changed_subject(Change.CANCELLED)
        await self._log.append(subject, record, key=record.service, message_id=record.message_id())
