"""Leasing: two Consumers, one a lane, asked for no more Invocations than slots are free.

A round first takes what is there, interactive before batch (whose emptiness is believed for some milliseconds, so that
a busy batch lane costs one ask a round). With slots still free both lanes are empty, and the round listens on both
until one has something. The credits of both lanes together never exceed the free slots, except for a
single free slot, which both wait for; should both come at once, one is handed straight back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Self

import structlog

from tidemill_common.bus import Leases
from tidemill_common.bus.addresses import address, work_stream, work_subject
from tidemill_common.bus.nats.acking import Acknowledgements
from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.lease import NatsLease
from tidemill_common.bus.nats.messages import MESSAGE_ID
from tidemill_common.bus.nats.pulling import HEARTBEAT, Pull, create_consumer, origin_of
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.poison import POISONED, Poison
from tidemill_common.errors import InvalidMessageError, TransientError, UnavailableError

log = structlog.get_logger()

LANES: Final = (Lane.INTERACTIVE, Lane.BATCH)
_IDLE_LIMIT: Final = timedelta(minutes=5)
"""After which the server drops a Consumer that no Worker asks and that has nothing leased."""
_PAUSE: Final = 0.25
_EMPTY_FOR: Final = 0.005
"""Seconds."""


@asynccontextmanager
async def leasing(
    wire: Wire, lease: timedelta, *, shard: int, service: ServiceName, slots: int
) -> AsyncIterator[Leases]:
    """Leases of one Service for one Worker."""
    leases = NatsLeases(wire, lease, shard=shard, service=service, slots=slots)
    await leases.create_consumers()
    pulling = asyncio.create_task(leases.pull(), name="bus-leases")
    try:
        yield leases
    finally:
        leases.stop()
        try:
            await pulling
        finally:
            await leases.close()


class NatsLeases:
    """The Leases of one Worker; see `Leases`."""

    def __init__(self, wire: Wire, lease: timedelta, *, shard: int, service: ServiceName, slots: int) -> None:
        self._wire = wire
        self._lease = lease
        self._shard = shard
        self._service = service
        self._slots = slots
        self._most = slots
        """The largest number of slots so far: what was asked for with more of them is not given back."""
        self._loop = asyncio.get_running_loop()
        self._held = 0
        """Leases not answered yet, those that nobody has taken from `_ready` included."""
        self._ready: dict[Lane, deque[tuple[Message, float]]] = {lane: deque() for lane in LANES}
        self._surplus: list[Message] = []
        self._changed = asyncio.Event()
        self._filled = asyncio.Event()
        self._found_empty = float("-inf")
        """When the interactive lane last had nothing."""
        self._stopping = False
        self._broken = False
        self._error: BaseException | None = None
        self._pulls = {lane: self._pull(lane) for lane in LANES}
        self._acknowledgements = {lane: Acknowledgements(wire) for lane in LANES}
        self._unwatch = wire.watch(self._break)

    def _pull(self, lane: Lane) -> Pull:
        take = partial(self._take, lane)
        return Pull(self._wire, work_stream(self._shard), self._consumer(lane), take, self._changed.set)

    def _consumer(self, lane: Lane) -> str:
        return f"{self._service}-{lane}"

    async def create_consumers(self) -> None:
        """Create the durable Consumers of both lanes, or find them."""
        for lane in LANES:
            await create_consumer(
                self._wire,
                work_stream(self._shard),
                self._consumer(lane),
                work_subject(self._shard, self._service, lane),
                durable_name=self._consumer(lane),
                ack_policy="explicit",
                ack_wait=_nanoseconds(self._lease),
                max_deliver=-1,
                max_ack_pending=-1,
                inactive_threshold=_nanoseconds(_IDLE_LIMIT + self._lease),
            )

    # --- what the Worker does ---

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NatsLease:
        while True:
            for lane in LANES:
                while self._ready[lane]:
                    if (lease := await self._open(lane, *self._ready[lane].popleft())) is not None:
                        return lease
            if self._error is not None:
                raise self._error
            if self._stopping:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()

    def allow(self, slots: int) -> None:
        """From now on at most so many unanswered."""
        if slots != self._slots:
            self._slots, self._most = slots, max(slots, self._most)
            self._changed.set()

    def stop(self) -> None:
        """Lease no more; what nobody has taken yet is given back."""
        self._stopping = True
        for queue in self._ready.values():
            self._surplus.extend(message for message, _ in queue)
            self._held -= len(queue)
            queue.clear()
        self._changed.set()
        self._filled.set()

    async def close(self) -> None:
        """Take back what is asked for, and give back what came too late."""
        self._unwatch()
        for pull in self._pulls.values():
            await pull.cancel()
        await self._give_back()

    def answered(self) -> None:
        """A Lease was answered: its slot is free."""
        self._held -= 1
        self._changed.set()

    async def _open(self, lane: Lane, message: Message, came: float) -> NatsLease | None:
        """The Lease of a delivery; None: it lasted no longer, or its body is poison."""
        left = self._lease - timedelta(seconds=self._loop.time() - came)
        if left <= timedelta():
            self.answered()
            return None
        try:
            invocation = Invocation.decode(message.data)
        except InvalidMessageError as error:
            await self._set_aside(lane, message, error)
            return None
        return NatsLease(
            self._wire,
            self._acknowledgements[lane],
            self.answered,
            message,
            invocation,
            lane,
            self._lease,
            datetime.now(UTC) + left,
        )

    async def _set_aside(self, lane: Lane, message: Message, error: InvalidMessageError) -> None:
        log.error("body breaks its contract, set aside", service=self._service, lane=lane, error=str(error))
        poison = Poison(service=self._service, lane=lane, body=message.data, message=str(error), at=datetime.now(UTC))
        origin = origin_of(message.reply)
        try:
            headers = {MESSAGE_ID: f"poison.{origin.stream}.{origin.position}"}
            await self._wire.store(address(POISONED, self._service), poison.encode(), headers)
            await self._wire.repeat(message.reply, b"+ACK")
        except TransientError as failure:  # it stays where it is, and is tried again when its Lease has ended
            log.warning("poison not set aside yet", service=self._service, error=str(failure))
        finally:
            self.answered()

    # --- what the server sends ---

    def _take(self, lane: Lane, message: Message) -> None:
        if self._stopping or self._held >= self._most:
            self._surplus.append(message)
        else:
            self._held += 1
            self._ready[lane].append((message, self._loop.time()))
            self._filled.set()
        self._changed.set()

    def _break(self) -> None:
        self._broken = True
        self._changed.set()

    @property
    def _free(self) -> int:
        return 0 if self._stopping else max(self._slots - self._held, 0)

    # --- rounds ---

    async def pull(self) -> None:
        """Rounds until `stop`; an error that cannot pass ends the iteration with it."""
        try:
            while not self._stopping:
                await self._round()
        except Exception as error:  # noqa: BLE001  # raised where the Leases are iterated
            self._error = error
            self._filled.set()

    async def _round(self) -> None:
        try:
            if self._broken:
                await self._renew()
            if await self._take_what_is_there() and self._free:
                await self._listen()
            await self._give_back()
        except TransientError as error:
            if self._wire.is_closed:
                raise UnavailableError(f"leases of {self._service}: the connection to the bus is closed") from error
            log.warning("leasing interrupted", service=self._service, error=str(error))
            self._broken = True
            await asyncio.sleep(_PAUSE)
        while not self._free and not self._stopping:
            await self._change()

    async def _renew(self) -> None:
        self._broken = False
        for pull in self._pulls.values():
            await pull.close()
        await self.create_consumers()

    async def _change(self, timeout: float | None = None) -> bool:
        """Wait until something has changed; False: nothing did in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _take_what_is_there(self) -> bool:
        """As much as slots are free; True: then both lanes were empty."""
        for lane in LANES:
            if lane is Lane.INTERACTIVE and self._loop.time() - self._found_empty < _EMPTY_FOR:
                continue
            pull, free = self._pulls[lane], self._free
            if not free or self._broken:
                return False
            await pull.ask(free, wait=False)
            while pull.asked and not self._broken:
                if not await self._change(HEARTBEAT.total_seconds()) and pull.asked:
                    self._broken = True  # the answer was lost
            self._check(pull)
            if pull.got == free:
                return False
            if lane is Lane.INTERACTIVE:
                self._found_empty = self._loop.time()
        return True

    async def _listen(self) -> None:
        interactive, batch = (self._pulls[lane] for lane in LANES)
        free = self._free
        try:
            await interactive.ask(free - free // 2, wait=True)
            await batch.ask(max(free // 2, 1), wait=True)
            while self._free and interactive.asked and batch.asked and not self._broken:
                await self._change(HEARTBEAT.total_seconds())
                if interactive.is_silent or batch.is_silent:
                    self._broken = True
        finally:
            for pull in (interactive, batch):
                await pull.cancel()
                self._check(pull)

    def _check(self, pull: Pull) -> None:
        if pull.failure is not None:
            log.info("asking for leases ended", service=self._service, reason=pull.failure)
            pull.failure = None
            self._broken = True

    async def _give_back(self) -> None:
        while self._surplus:
            message = self._surplus.pop()
            try:
                await self._wire.tell(message.reply, b"-NAK")
            except TransientError:
                return  # its Lease ends by itself


def _nanoseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1) * 1000
