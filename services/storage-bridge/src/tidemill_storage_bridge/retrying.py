"""Retries: the Attempts that Workers ask for, put on WORK. Competing consumers share the asks.

Workers may not write to the work queue, for headers would let them reach every Service there (ADR 7). An ask is on
RETRIES until its Attempt is stored, and storing it twice stores one, so nothing is lost whoever dies.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from tidemill_common.bus import Bus, Delivery
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.poison import POISONED, Poison
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import TransientError
from tidemill_common.verdicts import Ack, Redeliver, Release, SetAside, Verdict, judge
from tidemill_storage_bridge.domain.retries import checked
from tidemill_storage_bridge.metrics import RETRIES, RETRIES_REFUSED
from tidemill_storage_bridge.pauses import Backoff, pause, until

CONSUMER: Final = "bridge-retries"
_IN_FLIGHT: Final = 64
_ANSWER_WITHIN: Final = timedelta(seconds=5)
"""Storing takes milliseconds; so late, at most, is what a killed process had in flight."""
_BACKOFF: Final = timedelta(seconds=1)
_TRIES: Final = 10
"""Hand-overs of an ask that our own code fails on; one that the bus fails on is never given up."""

_log = structlog.get_logger(__name__)


class Retries:
    """Takes asks from `bridge-retries` and puts Attempts on WORK."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def run(self, stopping: asyncio.Event) -> None:
        """Store what is asked for until `stopping`, then finish what is in flight."""
        async with (
            self._bus.log.consume(
                RETRY_ASKED, consumer=CONSUMER, in_flight=_IN_FLIGHT, answer_within=_ANSWER_WITHIN
            ) as deliveries,
            asyncio.TaskGroup() as storing,
        ):
            await until(stopping, self._take(deliveries, storing, stopping))

    async def _take(
        self, deliveries: AsyncIterator[Delivery[RetryAsked]], storing: asyncio.TaskGroup, stopping: asyncio.Event
    ) -> None:
        async for delivery in deliveries:
            storing.create_task(self._settle(delivery, stopping))

    async def _settle(self, delivery: Delivery[RetryAsked], stopping: asyncio.Event) -> None:
        """Store one Attempt and answer its Delivery; nothing else answers it."""
        failure: BaseException | None = None
        try:
            await self._store(checked(delivery.record), stopping)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (settlement: judged just below)
            failure = error
        limit = sys.maxsize if isinstance(failure, TransientError) else _TRIES
        verdict = judge(failure, delivery=delivery.number, limit=limit, backoff=_BACKOFF)
        try:
            await self._carry_out(verdict, delivery)
        except TransientError as error:
            _log.warning("ask for a retry not settled, it will come again", error=str(error))
        if isinstance(failure, asyncio.CancelledError):
            raise failure

    async def _store(self, retry: RetryAsked, stopping: asyncio.Event) -> None:
        """Until it is stored: a bus that was away could not even be told to hand it over again soon."""
        backoff = Backoff(first=_BACKOFF / 4, longest=_BACKOFF)
        while True:
            try:
                if await self._bus.queue.plan(retry):
                    RETRIES.inc()
                return
            except TransientError as error:
                if stopping.is_set():
                    raise
                _log.warning("retry not stored yet", invocation_id=retry.invocation_id, error=str(error))
                await pause(stopping, backoff.next(error.retry_after))

    async def _carry_out(self, verdict: Verdict, delivery: Delivery[RetryAsked]) -> None:
        match verdict:
            case Ack():
                await delivery.ack()
            case Release():
                await delivery.nak()
            case Redeliver(delay):
                await delivery.nak(delay)
            case SetAside(reason):
                RETRIES_REFUSED.inc()
                _log.error("retry refused", subject=delivery.record.subject, reason=reason)
                await self._set_aside(delivery, reason)
                await delivery.ack()

    async def _set_aside(self, delivery: Delivery[RetryAsked], reason: str) -> None:
        """Keep what was asked for on DEAD, under the Service that asked."""
        record = delivery.record
        service = ServiceName(record.subject.rpartition(".")[2])
        poison = Poison(
            service=service,
            lane=record.body.lane,
            body=record.body.invocation,
            message=reason,
            at=datetime.now(UTC),
        )
        message_id = f"poison.{CONSUMER}.{record.position}"
        await self._bus.log.append(POISONED, poison, key=service, message_id=message_id)
