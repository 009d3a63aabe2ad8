"""Routing: one Invocation on WORK for each Service that an Event asks for. Competing consumers share the Events.

Everything here may happen twice: ids are derived from the Event, so the records and Invocations are the same ones.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Bus, Delivery
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import Invocation, InvocationChanged, Reason, changed_subject
from tidemill_common.errors import PermanentError, TransientError
from tidemill_common.verdicts import Ack, Redeliver, Release, SetAside, Verdict, judge
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.domain.dispatch import Dispatch, dispatch, failed, may_trigger, requested
from tidemill_storage_bridge.metrics import INVOCATIONS, REDELIVERED, REFUSED, ROUTED, UNMATCHED
from tidemill_storage_bridge.pauses import pause, until

CONSUMER: Final = "bridge-routing"
_BACKOFF: Final = timedelta(seconds=1)
_TRIES: Final = 10
"""Hand-overs of an Event that our own code fails on; one that the bus fails on is never given up."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRules:
    """What an operator decides about routing."""

    system_bucket: str
    in_flight: int = 256
    """Events that are routed at the same time."""


class Router:
    """Takes Events from `bridge-routing` and puts Invocations on WORK."""

    def __init__(self, bus: Bus, definitions: Definitions, rules: RoutingRules) -> None:
        self._bus = bus
        self._definitions = definitions
        self._rules = rules
        self._held = timedelta()
        """How long to take nothing new, because the bus refused or did not answer."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Route until `stopping`, then finish what is in flight. The definitions must have been loaded."""
        async with (
            self._bus.log.consume(RECEIVED, consumer=CONSUMER, in_flight=self._rules.in_flight) as deliveries,
            asyncio.TaskGroup() as routing,
        ):
            await until(stopping, self._take(deliveries, routing, stopping))

    async def _take(
        self, deliveries: AsyncIterator[Delivery[EventReceived]], routing: asyncio.TaskGroup, stopping: asyncio.Event
    ) -> None:
        async for delivery in deliveries:
            routing.create_task(self._settle(delivery))
            if self._held:
                held, self._held = self._held, timedelta()
                await pause(stopping, held)

    async def _settle(self, delivery: Delivery[EventReceived]) -> None:
        """Route one Event and answer its Delivery; nothing else answers it."""
        event = delivery.record.body
        failure: BaseException | None = None
        try:
            await self._route(delivery)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (settlement: judged just below)
            failure = error
        limit = sys.maxsize if isinstance(failure, TransientError) else _TRIES
        verdict = judge(failure, delivery=delivery.number, limit=limit, backoff=_BACKOFF)
        if isinstance(failure, TransientError) and isinstance(verdict, Redeliver):
            self._held = max(self._held, verdict.delay)
        try:
            await self._carry_out(verdict, delivery)
        except TransientError as error:
            _log.warning("event not settled, it will come again", event_id=event.id, error=str(error))
        if isinstance(failure, asyncio.CancelledError):
            raise failure

    async def _carry_out(self, verdict: Verdict, delivery: Delivery[EventReceived]) -> None:
        match verdict:
            case Ack():
                await delivery.ack()
            case Release():
                await delivery.nak()
            case Redeliver(delay, reason):
                REDELIVERED.inc()
                _log.warning("event is routed later", event_id=delivery.record.body.id, reason=reason)
                await delivery.nak(delay)
            case SetAside(reason):
                _log.error("event cannot be routed", event_id=delivery.record.body.id, reason=reason)
                await self._refuse(delivery, reason)
                await delivery.ack()

    async def _route(self, delivery: Delivery[EventReceived]) -> None:
        answer = await self._dispatch(delivery)
        if answer.refused is not None:
            REFUSED.inc()
            await self._conclude(answer.refused, delivery.record.body)
        elif not answer.invocations:
            UNMATCHED.inc()
        else:
            await self._request_all(answer.invocations)
            ROUTED.inc()

    async def _dispatch(self, delivery: Delivery[EventReceived]) -> Dispatch:
        """The answer by definitions that are at least as new as the Event."""
        event = delivery.record.body
        if may_trigger(event, system_bucket=self._rules.system_bucket):
            await self._definitions.caught_up()
        answer = self._answer(delivery)
        if answer.refused is not None:  # a Service that is not known may be newer than the index
            await self._definitions.caught_up()
            return self._answer(delivery)
        return answer

    def _answer(self, delivery: Delivery[EventReceived]) -> Dispatch:
        record = delivery.record
        return dispatch(
            record.body, self._definitions.triggers, at=record.time, system_bucket=self._rules.system_bucket
        )

    async def _request_all(self, invocations: Sequence[Invocation]) -> None:
        if len(invocations) == 1:  # the common case, without another task
            await self._request(invocations[0])
            return
        outcomes = await asyncio.gather(*map(self._request, invocations), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _request(self, invocation: Invocation) -> None:
        """Record and queue one Invocation, both at once: an order between them would only cost a round trip."""
        recording = asyncio.create_task(self._append(requested(invocation)))
        try:
            await self._submit(invocation)
        finally:
            await recording

    async def _submit(self, invocation: Invocation) -> None:
        if await self._bus.queue.submit(invocation):
            INVOCATIONS.inc()

    async def _append(self, change: InvocationChanged) -> None:
        subject = changed_subject(change.change)
        await self._bus.log.append(subject, change, key=change.service, message_id=change.message_id())

    async def _refuse(self, delivery: Delivery[EventReceived], reason: str) -> None:
        """Make an Event that can never be routed visible as failed Invocations."""
        try:
            invocations = self._answer(delivery).invocations
        except Exception:  # noqa: BLE001 (settlement: the bug that set the Event aside, once more)
            return
        for invocation in invocations:
            record = failed(invocation, Reason.INVALID_MESSAGE, reason)
            try:
                await self._conclude(record, delivery.record.body)
            except PermanentError as error:
                _log.error("failure not recorded", invocation_id=invocation.id, error=str(error))

    async def _conclude(self, record: InvocationChanged, event: EventReceived) -> None:
        """Record an end, and tell the caller who waits for it."""
        await self._append(record)
        if event.reply_to is not None:
            await self._bus.live.publish(event.reply_to, record.encode())
