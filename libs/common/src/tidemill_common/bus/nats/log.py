"""Logs on JetStream: append with acknowledgement, read by position, consume with competitors."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, TypeVar

from tidemill_common.bus import Delivery, Position, Record
from tidemill_common.bus.addresses import address, read_filter, stream_of
from tidemill_common.bus.nats.consuming import consuming
from tidemill_common.bus.nats.frames import Headers
from tidemill_common.bus.nats.reading import Reading, reading
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.contracts.contract import Contract, Subject
from tidemill_common.errors import NotFoundError

M = TypeVar("M", bound=Contract)

_MESSAGE_ID: Final = "Nats-Msg-Id"


class NatsLog:
    """Durable ordered logs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def append(self, subject: Subject[M], body: M, *, key: str, message_id: str | None = None) -> Position | None:
        """Store one record; see `Log.append`. Many at a time share one inbox and are pipelined."""
        headers: Headers | None = {_MESSAGE_ID: message_id} if message_id is not None else None
        stored = await self._wire.store(address(subject, key), body.encode(), headers)
        return None if stored.duplicate else Position(stored.seq)

    def read(
        self,
        subject: Subject[M],
        *,
        start: Position | datetime | None = None,
        key: str | None = None,
        follow: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Record[M]]]:
        """Records in order; see `Log.read`."""
        wanted = Reading(stream_of(subject), read_filter(subject, key), start, follow)
        return reading(self._wire, subject.contract, wanted)

    def consume(
        self,
        subject: Subject[M],
        *,
        consumer: str,
        in_flight: int = 256,
        answer_within: timedelta = timedelta(seconds=30),
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """Competing consumers; see `Log.consume`."""
        return consuming(
            self._wire,
            subject.contract,
            stream=stream_of(subject),
            name=consumer,
            filter_subject=subject.wildcard,
            in_flight=in_flight,
            answer_within=answer_within,
        )

    async def end(self, subject: Subject[M]) -> tuple[Position, Position]:
        """(oldest kept, newest) position; see `Log.end`."""
        state = (await self._wire.api(f"STREAM.INFO.{stream_of(subject)}"))["state"]
        newest = int(state["last_seq"])
        return Position(int(state["first_seq"]) if state["messages"] else newest + 1), Position(newest)

    async def get(self, subject: Subject[M], position: Position) -> Record[M]:
        """One record; see `Log.get`."""
        answer = await self._wire.api(f"STREAM.MSG.GET.{stream_of(subject)}", {"seq": position})
        message = answer["message"]
        return Record(
            subject=message["subject"],
            position=Position(message["seq"]),
            time=datetime.fromisoformat(message["time"]),
            body=subject.contract.decode(base64.b64decode(message.get("data", ""))),
        )

    async def delete(self, subject: Subject[M], position: Position) -> bool:
        """Remove one record; False: it was not there."""
        try:
            await self._wire.api(f"STREAM.MSG.DELETE.{stream_of(subject)}", {"seq": position})
        except NotFoundError:
            return False
        return True
