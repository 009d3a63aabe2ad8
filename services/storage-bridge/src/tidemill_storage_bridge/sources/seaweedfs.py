"""SeaweedFS: the filer's metadata stream, resumed from a cursor that never passes an Event without acknowledgement.

After each lost connection, and at each start, the stream is resumed *and* the watched folders are listed: the server
keeps its newest changes in memory, so kill -9 of it forgets changes whose objects exist (50 of 50 in a test). The
cursor is not saved before that listing is through, so a crash in between repeats both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc
import grpc.aio
import structlog

from tidemill_common.bus import Registers
from tidemill_common.contracts.contract import subject_token
from tidemill_common.contracts.event import EventReceived
from tidemill_common.errors import PermanentError, TransientError, UnavailableError
from tidemill_common.lifecycle import background
from tidemill_storage_bridge.domain.cursor import Progress, Ticket
from tidemill_storage_bridge.metrics import CURSOR_LAG, EVENTS_INVALID
from tidemill_storage_bridge.pauses import Backoff, pause, stopped
from tidemill_storage_bridge.ports import Publish
from tidemill_storage_bridge.sources.filer_pb2 import SubscribeMetadataResponse
from tidemill_storage_bridge.sources.filer_stream import SILENCE, FilerCall, end, responses, subscribe
from tidemill_storage_bridge.sources.seaweedfs_entries import BUCKETS, events_of, single_changes

_SAVE_EVERY: Final = timedelta(milliseconds=200)
_CATCHING_UP: Final = timedelta(minutes=1)
"""How long the listing waits for the stream; beyond it both go on side by side."""
_OVERLAP: Final = timedelta(seconds=2)
"""At the very first start the stream begins this much before now; repeats are recognised by their ids."""
_CLOCKS: Final = timedelta(minutes=1)
"""How far the clocks of the filer and the bus may differ."""

_log = structlog.get_logger(__name__)


def seaweedfs_source(provider: str) -> str:
    """The `source` of Events about this provider's objects, for its stream and its listing alike."""
    return f"/sources/seaweedfs/{provider}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filer:
    """Which filer to follow, and how."""

    address: str
    """`host:port` of its gRPC service."""
    provider: str
    system_bucket: str
    in_flight: int = 256
    """Changes on their way to the bus; beyond it nothing more is read."""

    @property
    def source(self) -> str:
        """The `source` of its Events."""
        return seaweedfs_source(self.provider)

    @property
    def register(self) -> str:
        """Where the cursor is kept."""
        return ".".join(["cursor", "seaweedfs", *(subject_token(part) for part in self.provider.split("."))])


CatchUp = Callable[[str, datetime | None], Awaitable[object]]
"""(provider, cursor's time or None at the very first start): list the watched folders and submit what EVENTS misses.

Raises TransientError when it has to be tried again.
"""
Recorded = Callable[[str, datetime], Awaitable[Collection[str]]]
"""(source, since): ids of its Events that EVENTS has from then on."""


@dataclass(slots=True, kw_only=True)
class _Session:
    """One connection to the filer."""

    progress: Progress
    since: datetime | None
    """The time of the cursor; None: nothing was ever handled."""
    connected_ns: int = field(default_factory=time.time_ns)
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    """The stream has told all that was there when the session began."""
    listed: bool = False


class SeaweedSource:
    """The Source of one filer."""

    name = "seaweedfs"

    def __init__(self, filer: Filer, *, registers: Registers, catch_up: CatchUp, recorded: Recorded) -> None:
        self._filer = filer
        self._registers = registers
        self._catch_up = catch_up
        self._recorded = recorded
        self._progress: Progress | None = None
        self._saved = 0
        self._known: Collection[str] = frozenset()
        """Events after the cursor that were recorded before the start, so reading them again publishes nothing."""

    async def run(self, publish: Publish, stopping: asyncio.Event) -> None:
        """Follow the filer until `stopping`, connecting again as often as needed."""
        backoff = Backoff(first=timedelta(milliseconds=100), longest=timedelta(seconds=5))
        while not stopping.is_set():
            started = time.monotonic()
            try:
                await self._session(publish, stopping)
            except TransientError as error:
                _log.warning("filer stream lost", filer=self._filer.address, error=str(error))
            if time.monotonic() - started > SILENCE.total_seconds():
                backoff.reset()
            await pause(stopping, backoff.next())

    async def _session(self, publish: Publish, stopping: asyncio.Event) -> None:
        """One connection, from subscribing to its loss."""
        session = await self._resume()
        async with grpc.aio.insecure_channel(self._filer.address) as channel:
            call = subscribe(channel, prefix=BUCKETS, since_ns=session.progress.cursor)
            async with background(
                stop=lambda: end(call), saving=self._list_then_save(session), signal=stopped(stopping)
            ):
                lost = await self._read(call, session, publish, stopping)
        if session.listed:
            await self._save(session.progress)
        if lost is not None and not stopping.is_set():
            raise lost

    async def _resume(self) -> _Session:
        """Where to go on."""
        stored = await self._registers.get(self._filer.register)
        if self._progress is None:
            begin = int(stored.value) if stored is not None else time.time_ns() - int(_OVERLAP.total_seconds() * 1e9)
            if stored is not None:
                self._known = await self._recorded(self._filer.source, _time(begin) - _CLOCKS)
            self._progress = Progress(begin)
            _log.info("following filer", filer=self._filer.address, since=_time(begin).isoformat())
        # what an earlier session left unfinished is read again
        self._progress = Progress(self._progress.cursor)
        since = _time(self._progress.cursor) if stored is not None else None
        return _Session(progress=self._progress, since=since)

    async def _read(
        self, call: FilerCall, session: _Session, publish: Publish, stopping: asyncio.Event
    ) -> UnavailableError | None:
        """Publish what arrives, many at a time; returns when the stream has ended and nothing is in flight."""
        slots = asyncio.Semaphore(self._filer.in_flight)
        async with asyncio.TaskGroup() as handling:
            try:
                async for response in responses(call):
                    for change in single_changes(response):
                        await slots.acquire()
                        ticket = session.progress.begin(change.ts_ns)
                        task = handling.create_task(
                            self._handle(ticket, self._events(change), session.progress, publish, stopping)
                        )
                        task.add_done_callback(lambda _: slots.release())
                    self._note_time(response, session)
            except UnavailableError as error:
                return error
        return None

    def _note_time(self, response: SubscribeMetadataResponse, session: _Session) -> None:
        if response.ts_ns >= session.connected_ns and not session.caught_up.is_set():
            session.caught_up.set()
            self._known = frozenset()

    def _events(self, change: SubscribeMetadataResponse) -> list[EventReceived]:
        filer = self._filer
        try:
            found = events_of(change, source=filer.source, provider=filer.provider, system_bucket=filer.system_bucket)
        except ValueError as error:  # pydantic's too: a name that is no text, a time beyond the calendar
            EVENTS_INVALID.labels(self.name).inc()
            _log.error("filer change not understood", directory=change.directory, error=str(error))
            return []
        return [event for event in found if event.id not in self._known]

    async def _handle(
        self,
        ticket: Ticket,
        events: Sequence[EventReceived],
        progress: Progress,
        publish: Publish,
        stopping: asyncio.Event,
    ) -> None:
        """Publish, and only then let the cursor pass: this order is the promise."""
        for event in events:
            if not await self._deliver(event, publish, stopping):
                return
        progress.finish(ticket)

    async def _deliver(self, event: EventReceived, publish: Publish, stopping: asyncio.Event) -> bool:
        """Publish until it is acknowledged; False: stopped before that."""
        backoff = Backoff(first=timedelta(milliseconds=100), longest=timedelta(seconds=2))
        while True:
            try:
                await publish(event)
                return True
            except TransientError as error:
                _log.warning("event not acknowledged yet", event_id=event.id, error=str(error))
                delay = backoff.next(error.retry_after)
            except PermanentError as error:
                EVENTS_INVALID.labels(self.name).inc()
                _log.error("event cannot be stored", event_id=event.id, error=str(error))
                return True
            await pause(stopping, delay)
            if stopping.is_set():
                return False

    async def _list_then_save(self, session: _Session) -> None:
        """List once when the stream has caught up, then save the cursor often, as long as the session lasts.

        In this order, what the stream tells is known when the listing is compared, and is not submitted by both.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCHING_UP.total_seconds()):
                await session.caught_up.wait()
        backoff = Backoff(first=timedelta(milliseconds=250), longest=timedelta(seconds=10))
        while not session.listed:
            try:
                await self._catch_up(self._filer.provider, session.since)
                session.listed = True
            except TransientError as error:
                _log.warning("listing after connecting has to wait", error=str(error))
                await asyncio.sleep(backoff.next(error.retry_after).total_seconds())
        while True:
            await self._save(session.progress)
            await asyncio.sleep(_SAVE_EVERY.total_seconds())

    async def _save(self, progress: Progress) -> None:
        lag = (time.time_ns() - progress.cursor) / 1e9 if progress.waiting else 0.0
        CURSOR_LAG.labels(self.name).set(lag)
        if progress.cursor == self._saved:
            return
        try:
            await self._registers.put(self._filer.register, str(progress.cursor).encode())
            self._saved = progress.cursor
        except TransientError as error:
            _log.warning("cursor not saved", error=str(error))


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
