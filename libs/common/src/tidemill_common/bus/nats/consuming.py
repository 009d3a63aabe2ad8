"""Competing consumers of a log: a durable Consumer with explicit acknowledgements, asked by credits."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Generic, TypeVar

import structlog

from tidemill_common.bus import Delivery, Position, Record
from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.pulling import Pull, create_consumer, news, origin_of
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.contracts.contract import Contract
from tidemill_common.errors import InvalidMessageError, TransientError, UnavailableError

log = structlog.get_logger()

M = TypeVar("M", bound=Contract)

_PAUSE: Final = 0.25


@asynccontextmanager
async def consuming(
    wire: Wire,
    contract: type[M],
    *,
    stream: str,
    name: str,
    filter_subject: str,
    in_flight: int,
    answer_within: timedelta,
) -> AsyncIterator[AsyncIterator[Delivery[M]]]:
    """Deliveries of one durable Consumer, at most `in_flight` of them unanswered here."""
    consumer = _Consumer(wire, contract, stream, name, filter_subject, in_flight, answer_within)
    deliveries = consumer.deliveries()
    try:
        await consumer.create()
        yield deliveries
    finally:
        await deliveries.aclose()
        await consumer.close()


class _NatsDelivery(Generic[M]):
    """One hand-over; see `Delivery`."""

    def __init__(self, owner: _Consumer[M], reply: str, record: Record[M], number: int) -> None:
        self._owner = owner
        self._reply = reply
        self.record = record
        self.number = number

    async def ack(self) -> None:
        """It is handled; returns when the bus has confirmed."""
        await self._owner.answer(self._reply, b"+ACK")

    async def nak(self, delay: timedelta = timedelta()) -> None:
        """Deliver it again, not before `delay`."""
        nanoseconds = delay // timedelta(microseconds=1) * 1000
        body = json.dumps({"delay": nanoseconds}).encode() if nanoseconds > 0 else b""
        await self._owner.answer(self._reply, b"-NAK " + body if body else b"-NAK")


class _Consumer(Generic[M]):
    def __init__(
        self,
        wire: Wire,
        contract: type[M],
        stream: str,
        name: str,
        filter_subject: str,
        in_flight: int,
        answer_within: timedelta,
    ) -> None:
        self._wire = wire
        self._contract = contract
        self._stream = stream
        self._name = name
        self._filter = filter_subject
        self._limit = in_flight
        self._answer_within = answer_within
        self._unanswered = 0
        self._buffer: deque[Message] = deque()
        self._woken = asyncio.Event()
        self._pull = Pull(wire, stream, name, self._take, self._woken.set)
        self._broken = False
        self._unwatch = wire.watch(self._break)

    async def create(self) -> None:
        """Create the durable Consumer, or find it."""
        await create_consumer(
            self._wire,
            self._stream,
            self._name,
            self._filter,
            durable_name=self._name,
            ack_policy="explicit",
            ack_wait=self._answer_within // timedelta(microseconds=1) * 1000,
            max_deliver=-1,
            max_ack_pending=-1,
            deliver_policy="all",
        )

    async def close(self) -> None:
        """Hand back what nobody looked at."""
        self._unwatch()
        await self._pull.cancel()
        while self._buffer:
            try:
                await self._wire.tell(self._buffer.popleft().reply, b"-NAK")
            except TransientError:
                break  # its acknowledgement time will pass

    async def answer(self, reply: str, body: bytes) -> None:
        """Answer a hand-over and wait until the server has it; frees its place."""
        self._unanswered -= 1
        self._woken.set()
        await self._wire.repeat(reply, body)

    def _break(self) -> None:
        self._broken = True
        self._woken.set()

    def _take(self, message: Message) -> None:
        self._buffer.append(message)
        self._woken.set()

    async def deliveries(self) -> AsyncGenerator[Delivery[M], None]:
        """Go on until the caller leaves or the connection is closed for good."""
        while True:
            while self._buffer:
                message = self._buffer.popleft()
                if (delivery := await self._delivery(message)) is not None:
                    self._unanswered += 1
                    yield delivery
                await self._refill()
            await self._recover_or_wait()

    async def _delivery(self, message: Message) -> Delivery[M] | None:
        origin = origin_of(message.reply)
        try:
            body = self._contract.decode(message.data)
        except InvalidMessageError as error:
            log.error(
                "record breaks its contract, skipped", stream=self._stream, position=origin.position, error=str(error)
            )
            await self._wire.repeat(message.reply, b"+TERM")
            return None
        position = Position(origin.position)
        record = Record(subject=message.subject, position=position, time=origin.time, body=body)
        return _NatsDelivery(self, message.reply, record, origin.delivered)

    async def _refill(self) -> None:
        free = self._limit - self._unanswered - len(self._buffer) - self._pull.asked
        if free <= 0 or (self._pull.asked > 0 and free < self._limit // 2):
            return
        try:
            await self._pull.ask(free, wait=True)
        except TransientError:
            self._broken = True

    async def _recover_or_wait(self) -> None:
        if self._wire.is_closed:
            raise UnavailableError(f"consume {self._filter}: the connection to the bus is closed")
        if self._broken or self._pull.failure is not None or self._pull.is_silent:
            await self._try_to_renew()
            return
        await self._refill()
        self._woken.clear()
        if self._buffer or self._broken:
            return
        await news(self._woken)

    async def _try_to_renew(self) -> None:
        self._broken = False
        await self._pull.close()
        try:
            await self.create()
        except TransientError as error:
            log.warning("consuming interrupted", consumer=self._name, error=str(error))
            self._broken = True
            await asyncio.sleep(_PAUSE)
