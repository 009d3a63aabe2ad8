"""Keeps SQL as LIFECYCLE and DEAD say: many records a transaction, each record applied once.

The position is stored in the transaction of the rows. Several gateways may fold into one database: a batch that another
one was faster with is skipped, and a gap (somebody set the database back) makes the reader start again where SQL is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.contract import Contract, Subject
from tidemill_common.errors import TransientError
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.sql import positions
from tidemill_gateway.sql.engine import writing

log = structlog.get_logger(__name__)
M = TypeVar("M", bound=Contract)

_BATCH: Final = 1000
"""Records a transaction: at this size its commit costs little beside its rows."""
_GATHERING: Final = 0.02
"""Seconds between two transactions while records trickle in: one for each record would cost ten times their rows."""
_LONGEST_GATHERING: Final = 0.2
_SHARE: Final = 9
"""Between two transactions this many times what the last one took passes, so the busier we are the fewer there are."""
_PATIENCE: Final = 1.0
"""Seconds before a failed round is tried again."""


class _StartAgainError(Exception):
    """SQL is elsewhere than the reader; read from where SQL is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection(Generic[M]):
    """One Stream and how its records change SQL."""

    name: str
    subject: Subject[M]
    apply: Callable[[AsyncConnection, Sequence[Record[M]]], Awaitable[None]]
    """Puts records into the transaction; they are new, in order and without gap."""
    applied: Callable[[Sequence[Record[M]]], None] = lambda _: None
    """Told of every record after its transaction, whichever replica made it."""
    forget: Callable[[AsyncConnection], Awaitable[None]] | None = None
    """Undo what depends on positions when the Stream begins anew."""


class Projector(Generic[M]):
    """Follows one Stream into SQL."""

    def __init__(self, projection: Projection[M], *, bus_log: Log, engine: AsyncEngine, metrics: Metrics) -> None:
        self._projection = projection
        self._log = bus_log
        self._engine = engine
        self._metrics = metrics
        self._reached = 0
        """The newest position that SQL is known to have had."""

    async def run(self) -> None:
        """Follow until cancelled; goes on where SQL is after any failure of the bus or the database."""
        while True:
            try:
                await self._read(follow=True)
            except _StartAgainError:
                continue
            except (TransientError, SQLAlchemyError, OSError) as error:
                log.warning("projection waits", projection=self._projection.name, error=str(error))
            await asyncio.sleep(_PATIENCE)

    async def catch_up(self) -> None:
        """Fold what is on the Stream now, and return."""
        await self._read(follow=False)

    async def _read(self, *, follow: bool) -> None:
        start = await self._start()
        async with (
            self._log.read(self._projection.subject, start=start, follow=follow) as records,
            aclosing(batches(records, _BATCH)) as parts,
        ):
            async for batch in parts:
                await self._handle(batch)

    async def _start(self) -> Position:
        """Where to read on; counts what retention dropped meanwhile."""
        oldest, newest = await self._log.end(self._projection.subject)
        name = self._projection.name
        async with writing(self._engine) as connection:
            await positions.declare(connection, name)
            position = await positions.locked_position(connection, name)
            if position > newest:
                log.warning("stream begins anew", projection=name, position=position, newest=newest)
                if self._projection.forget is not None:
                    await self._projection.forget(connection)
                await positions.move(connection, name, before=position, after=oldest - 1)
                position = oldest - 1
            elif position < oldest - 1:
                missed = oldest - 1 - position if position else 0
                await positions.move(connection, name, before=position, after=oldest - 1, skipped=missed)
                position = oldest - 1
            self._metrics.skipped.labels(name).set((await positions.skipped_records(connection)).get(name, 0))
        self._reached = position
        return Position(position + 1)

    async def _handle(self, batch: Sequence[Record[M]]) -> None:
        name = self._projection.name
        async with writing(self._engine) as connection:
            before = await positions.locked_position(connection, name)
            if before < self._reached:
                raise _StartAgainError
            fresh = [record for record in batch if record.position > before]
            if fresh:
                await self._projection.apply(connection, fresh)
                if not await positions.move(connection, name, before=before, after=fresh[-1].position):
                    raise _StartAgainError
            self._reached = max(before, batch[-1].position)
        self._projection.applied(batch)
        self._metrics.projected.labels(name).inc(len(fresh))
        self._metrics.position.labels(name).set(batch[-1].position)


async def batches(records: AsyncIterator[Record[M]], size: int) -> AsyncGenerator[list[Record[M]], None]:
    """What has arrived, up to `size` records at a time, at once when none came lately; reads one batch ahead."""
    queue: asyncio.Queue[Record[M] | None] = asyncio.Queue(size)

    async def pump() -> None:
        try:
            async for record in records:
                await queue.put(record)
        except Exception:
            await queue.put(None)  # not when cancelled: nobody takes it then, and the queue may be full
            raise
        await queue.put(None)

    pumping = asyncio.create_task(pump())
    try:
        while (record := await queue.get()) is not None:
            batch = [record]
            ended = False
            while len(batch) < size and not queue.empty():
                following = queue.get_nowait()
                if following is None:
                    ended = True
                    break
                batch.append(following)
            begun = time.monotonic()
            yield batch
            if ended:
                break
            if len(batch) < size:
                await asyncio.sleep(min(max(_SHARE * (time.monotonic() - begun), _GATHERING), _LONGEST_GATHERING))
        await pumping
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
