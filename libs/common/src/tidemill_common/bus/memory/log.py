"""Logs in memory."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from tidemill_common.bus import Delivery, Position, Record
from tidemill_common.bus.addresses import address, read_filter, stream_of
from tidemill_common.bus.memory.clock import Clock
from tidemill_common.bus.memory.stream import Kept, MemoryStream
from tidemill_common.contracts.contract import Contract, Subject
from tidemill_common.errors import InvalidMessageError, NotFoundError

log = structlog.get_logger()

M = TypeVar("M", bound=Contract)


class MemoryLog:
    """Durable as long as the process."""

    def __init__(self, streams: dict[str, MemoryStream], consumers: dict[str, MemoryConsumer], clock: Clock) -> None:
        self._streams = streams
        self._consumers = consumers
        self._clock = clock

    def _stream(self, subject: Subject[M]) -> MemoryStream:
        return self._streams[stream_of(subject)]

    async def append(self, subject: Subject[M], body: M, *, key: str, message_id: str | None = None) -> Position | None:
        """Store one record; see `Log.append`."""
        position = self._stream(subject).append(address(subject, key), body.encode(), message_id)
        return None if position is None else Position(position)

    @asynccontextmanager
    async def read(
        self,
        subject: Subject[M],
        *,
        start: Position | datetime | None = None,
        key: str | None = None,
        follow: bool = False,
    ) -> AsyncIterator[AsyncIterator[Record[M]]]:
        """Records in order; see `Log.read`."""
        stream = self._stream(subject)
        match start:
            case None:
                last_read = 0
            case datetime():
                last_read = stream.before(start)
            case _:
                last_read = start - 1
        records = _records(
            stream, subject.contract, read_filter(subject, key), last_read, None if follow else stream.newest
        )
        try:
            yield records
        finally:
            await records.aclose()

    def consume(
        self,
        subject: Subject[M],
        *,
        consumer: str,
        in_flight: int = 256,
        answer_within: timedelta = timedelta(seconds=30),
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """Competing consumers; see `Log.consume`."""
        shared = self._consumers.setdefault(
            consumer, MemoryConsumer(self._stream(subject), subject.wildcard, self._clock, answer_within)
        )
        return _consuming(shared, subject.contract, in_flight)

    async def end(self, subject: Subject[M]) -> tuple[Position, Position]:
        """(oldest kept, newest) position."""
        stream = self._stream(subject)
        return Position(stream.oldest), Position(stream.newest)

    async def get(self, subject: Subject[M], position: Position) -> Record[M]:
        """One record; see `Log.get`."""
        kept = self._stream(subject).get(position)
        if kept is None:
            raise NotFoundError(f"{stream_of(subject)} keeps nothing at {position}")
        return _decoded(kept, subject.contract)

    async def delete(self, subject: Subject[M], position: Position) -> bool:
        """Remove one record; False: it was not there."""
        return self._stream(subject).remove(position)


def _decoded(kept: Kept, contract: type[M]) -> Record[M]:
    return Record(
        subject=kept.subject, position=Position(kept.position), time=kept.time, body=contract.decode(kept.body)
    )


def _readable(kept: Kept, contract: type[M]) -> Record[M] | None:
    try:
        return _decoded(kept, contract)
    except InvalidMessageError as error:
        log.error("record breaks its contract, skipped", position=kept.position, error=str(error))
        return None


async def _records(
    stream: MemoryStream, contract: type[M], pattern: str, last_read: int, last: int | None
) -> AsyncGenerator[Record[M], None]:
    while last is None or last_read < last:
        kept = stream.after(last_read, pattern)
        if kept is None and last is not None:
            return
        if kept is None:
            await stream.changed.wait()
            continue
        if last is not None and kept.position > last:
            return
        last_read = kept.position
        if (record := _readable(kept, contract)) is not None:
            yield record


class MemoryConsumer:
    """The cursor that competing consumers share."""

    def __init__(self, stream: MemoryStream, pattern: str, clock: Clock, answer_within: timedelta) -> None:
        self._answer_within = answer_within
        self.changed = stream.changed
        self._stream = stream
        self._pattern = pattern
        self._clock = clock
        self._cursor = 0
        self._again: list[int] = []
        self._numbers: dict[int, int] = {}
        """How often each record was handed over that is not acknowledged."""

    def take(self) -> tuple[Kept, int] | None:
        """The next record and the number of this hand-over; None: there is nothing to do."""
        kept = None
        while self._again and kept is None:
            kept = self._stream.get(heapq.heappop(self._again))
        if kept is None:
            kept = self._stream.after(self._cursor, self._pattern)
            if kept is None:
                return None
            self._cursor = kept.position
        number = self._numbers.get(kept.position, 0) + 1
        self._numbers[kept.position] = number
        self.again(kept.position, number, self._answer_within)
        return kept, number

    def again(self, position: int, number: int, delay: timedelta) -> None:
        """Hand the record over again after `delay`, unless it is answered or handed over before."""

        def repeat() -> None:
            if self._numbers.get(position) == number:
                heapq.heappush(self._again, position)
                self.changed.fire()

        self._clock.call_at(self._clock.now() + delay, repeat) if delay else repeat()

    def ack(self, position: int) -> None:
        """It is handled."""
        self._numbers.pop(position, None)
        if self._stream.spec.work_queue:
            self._stream.remove(position)


class _MemoryDelivery(Delivery[M]):
    def __init__(self, consumer: MemoryConsumer, record: Record[M], number: int, places: _Places) -> None:
        self._consumer = consumer
        self._places = places
        self._record = record
        self._number = number

    @property
    def record(self) -> Record[M]:
        return self._record

    @property
    def number(self) -> int:
        return self._number

    async def ack(self) -> None:
        """It is handled."""
        self._places.free += 1
        self._consumer.ack(self._record.position)
        self._consumer.changed.fire()

    async def nak(self, delay: timedelta = timedelta()) -> None:
        """Deliver it again."""
        self._places.free += 1
        self._consumer.again(self._record.position, self._number, delay)
        self._consumer.changed.fire()


class _Places:
    def __init__(self, free: int) -> None:
        self.free = free


@asynccontextmanager
async def _consuming(
    consumer: MemoryConsumer, contract: type[M], in_flight: int
) -> AsyncIterator[AsyncIterator[Delivery[M]]]:
    deliveries = _deliveries(consumer, contract, _Places(in_flight))
    try:
        yield deliveries
    finally:
        await deliveries.aclose()


async def _deliveries(
    consumer: MemoryConsumer, contract: type[M], places: _Places
) -> AsyncGenerator[Delivery[M], None]:
    while True:
        taken = consumer.take() if places.free > 0 else None
        if taken is None:
            await consumer.changed.wait()
            continue
        kept, number = taken
        record = _readable(kept, contract)
        if record is None:
            consumer.ack(kept.position)
            continue
        places.free -= 1
        yield _MemoryDelivery(consumer, record, number, places)
