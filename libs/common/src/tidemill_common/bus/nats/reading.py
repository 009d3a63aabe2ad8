"""Reading a log: a short-lived Consumer without acknowledgements, made anew behind the last record after any fault.

Two checks keep the promise of no gap and no repeat: the Consumer's own sequence must grow by one with each Message, and
a Consumer is never used beyond a fault.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import uuid4

import structlog

from tidemill_common.bus import Position, Record
from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.pulling import Origin, Pull, create_consumer, news, origin_of
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.contracts.contract import Contract
from tidemill_common.errors import InvalidMessageError, TransientError, UnavailableError

log = structlog.get_logger()

M = TypeVar("M", bound=Contract)

_BATCH: Final = 512
_IDLE_LIMIT: Final = 60_000_000_000
"""Nanoseconds after which the server drops a Consumer that nobody reads."""
_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read."""

    stream: str
    filter_subject: str
    start: Position | datetime | None
    follow: bool


@asynccontextmanager
async def reading(wire: Wire, contract: type[M], wanted: Reading) -> AsyncIterator[AsyncIterator[Record[M]]]:
    """Records in order, for one reader."""
    reader = _Reader(wire, contract, wanted)
    records = reader.records()
    try:
        await reader.open()
        yield records
    finally:
        await records.aclose()
        await reader.close()


class _Reader(Generic[M]):
    def __init__(self, wire: Wire, contract: type[M], wanted: Reading) -> None:
        self._wire = wire
        self._contract = contract
        self._wanted = wanted
        self._next: Position | None = None
        self._last: Position | None = None
        """Where reading ends; None: it follows."""
        self._sequence = 0
        self._buffer: deque[tuple[Origin, Message]] = deque()
        self._woken = asyncio.Event()
        self._broken = False
        self._asked = False
        self._ended = False
        self._pull: Pull | None = None
        self._consumer = ""
        self._unwatch = wire.watch(self._break)

    async def open(self) -> None:
        """Fix the end, and make the first Consumer, so that reading begins now."""
        if not self._wanted.follow:
            state = (await self._wire.api(f"STREAM.INFO.{self._wanted.stream}"))["state"]
            self._last = Position(int(state["last_seq"]))
        await self._renew()

    async def close(self) -> None:
        self._unwatch()
        if self._pull is not None:
            await self._pull.close()
            try:
                await self._wire.tell(f"$JS.API.CONSUMER.DELETE.{self._wanted.stream}.{self._consumer}")
            except UnavailableError:
                log.debug("reader left its consumer to the server", stream=self._wanted.stream)

    def _break(self) -> None:
        self._broken = True
        self._woken.set()

    async def _renew(self) -> None:
        if self._pull is not None:
            await self._pull.close()
        self._sequence, self._broken, self._asked = 0, False, False
        self._buffer.clear()
        self._consumer = f"read-{uuid4().hex[:16]}"
        created = await create_consumer(
            self._wire,
            self._wanted.stream,
            self._consumer,
            self._wanted.filter_subject,
            ack_policy="none",
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_IDLE_LIMIT,
            **self._policy(),
        )
        self._pull = Pull(self._wire, self._wanted.stream, self._consumer, self._take, self._woken.set)
        self._ended = self._last is not None and created["num_pending"] == 0

    def _policy(self) -> dict[str, object]:
        start = self._next if self._next is not None else self._wanted.start
        match start:
            case None:
                return {"deliver_policy": "all"}
            case datetime():
                return {"deliver_policy": "by_start_time", "opt_start_time": start.isoformat()}
            case _:
                return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(int(start), 1)}

    def _take(self, message: Message) -> None:
        origin = origin_of(message.reply)
        self._sequence += 1
        if origin.sequence != self._sequence:
            self._broken = True
        if not self._broken:
            self._buffer.append((origin, message))
        self._woken.set()

    async def records(self) -> AsyncGenerator[Record[M], None]:
        """Go on, whatever happens to the connection, until the end is reached."""
        while True:
            while self._buffer and not self._broken:
                origin, message = self._buffer.popleft()
                self._next = Position(origin.position + 1)
                if self._last is not None and origin.position > self._last:
                    return
                if (record := self._record(origin, message)) is not None:
                    yield record
                if self._last is not None and (origin.pending == 0 or origin.position == self._last):
                    return
                await self._refill()
            if self._ended:
                return
            await self._recover_or_wait()

    async def _refill(self) -> None:
        """Ask for more while the buffer is being read."""
        pull = self._pull
        if pull is None or self._broken or pull.asked + len(self._buffer) > _BATCH // 2:
            return
        try:
            self._asked = True
            await pull.ask(_BATCH, wait=True)
        except TransientError:
            self._broken = True

    async def _recover_or_wait(self) -> None:
        pull = self._pull
        if self._wire.is_closed:
            raise UnavailableError(f"read {self._wanted.filter_subject}: the connection to the bus is closed")
        over = pull is not None and pull.asked == 0 and self._asked and self._last is not None
        if pull is None or self._broken or pull.failure is not None or pull.is_silent or over:
            await self._try_to_renew()
            return
        await self._refill()
        self._woken.clear()
        if self._buffer or self._broken:
            return
        await news(self._woken)

    async def _try_to_renew(self) -> None:
        try:
            await self._renew()
        except TransientError as error:
            log.warning("reading interrupted", stream=self._wanted.stream, error=str(error))
            self._broken = True
            await asyncio.sleep(_PAUSE)

    def _record(self, origin: Origin, message: Message) -> Record[M] | None:
        try:
            body = self._contract.decode(message.data)
        except InvalidMessageError as error:
            log.error(
                "record breaks its contract, skipped",
                stream=self._wanted.stream,
                position=origin.position,
                error=str(error),
            )
            return None
        return Record(subject=message.subject, position=Position(origin.position), time=origin.time, body=body)
