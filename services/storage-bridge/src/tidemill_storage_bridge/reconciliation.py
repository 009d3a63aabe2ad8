"""Reconciliation: what a listing of the input folders shows and EVENTS does not know is submitted as an Event.

It catches what storage forgot to tell: lost webhooks, a filer killed before it wrote its changes down. Asked for on
`live.reconcile`, on a schedule, and by the SeaweedFS Source after each connection. Memory: one number for each
object that EVENTS knows of a bucket, and one page of a listing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.contract import EventId, derive_id
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.service import ServiceDefined, StorageIO
from tidemill_common.errors import NotFoundError, PermanentError
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.domain.gaps import KnownObjects, Memory, outermost, reach
from tidemill_storage_bridge.domain.triggers import WatchedFolder
from tidemill_storage_bridge.metrics import RECONCILED
from tidemill_storage_bridge.ports import Clock, Publish, Stores, utc_now
from tidemill_storage_bridge.recorded import RecordedObjects, RequestedObjects
from tidemill_storage_bridge.sources.s3_listing import Listed, list_folder, listing_source
from tidemill_storage_bridge.sources.seaweedfs import seaweedfs_source

GRACE: Final = timedelta(seconds=60)
"""Younger objects are left to their notification where a listing cannot derive the id that this will have."""
_CLOCKS: Final = timedelta(minutes=1)
_BATCH: Final = 64

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be compared."""

    since: datetime | None = None
    """Only objects modified from then on; None: as far back as is safe."""
    backfill: bool = False
    """Also objects older than that, for the asking Service alone."""
    dry_run: bool = False


@dataclass(slots=True)
class Report:
    """What was found."""

    listed: int = 0
    missing: int = 0
    submitted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watcher:
    """One Trigger, and from when on its objects are submitted unasked; None: none of them are."""

    service: ServiceDefined
    input: StorageIO
    reach: datetime | None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One bucket's watchers and what is known of it."""

    watchers: Sequence[_Watcher]
    recorded: RecordedObjects
    requested: RequestedObjects | None
    """For a backfill: what the asking Service was run for already."""
    wish: Wish
    report: Report

    def known_for(self, event: EventReceived) -> KnownObjects:
        """What makes an Event needless: for one Service, that it was run; else that EVENTS knows the object."""
        if event.service is not None and self.requested is not None:
            return self.requested.known
        return self.recorded.known


class Reconciler:
    """Compares input folders with EVENTS and submits what is missing there."""

    def __init__(
        self,
        log: Log,
        definitions: Definitions,
        stores: Stores,
        publish: Publish,
        *,
        streamed: Collection[str] = (),
        now: Clock = utc_now,
    ) -> None:
        self._log = log
        self._definitions = definitions
        self._stores = stores
        self._publish = publish
        self._streamed = frozenset(streamed)
        """Providers whose own Source gives an object the id that a listing derives."""
        self._now = now

    async def service(self, name: str, wish: Wish) -> Report:
        """Compare the input folders of one Service.

        Raises:
            NotFoundError: No such Service, bucket or credentials.
            TidemillError: As the store or the bus raise it.
        """
        await self._definitions.caught_up()
        definition = self._definitions.triggers.definition(name)
        if definition is None or definition.service is None:
            raise NotFoundError(f"reconcile {name!r}: there is no such Service")
        folders = [WatchedFolder(definition=definition, input=entry) for entry in definition.service.input]
        report = Report()
        for bucket in await self._buckets(folders, handled=None):
            await self._compare(bucket, wish, report)
        return report

    async def watched(self, provider: str | None = None, handled: datetime | None = None) -> Report:
        """Compare all watched folders (of one provider); a bucket that cannot be read is logged and left out.

        Args:
            handled: Up to when this provider's stream is known to have been handled.

        Raises:
            TransientError: The store or the bus did not answer: try again.
        """
        await self._definitions.caught_up()
        report = Report()
        for bucket in await self._buckets(self._definitions.triggers.watched(provider), handled=handled):
            try:
                await self._compare(bucket, Wish(), report)
            except PermanentError as error:
                _log.warning("bucket not reconciled", provider=bucket[0].input.storage_provider, error=str(error))
        if report.listed:
            _log.info("folders reconciled", listed=report.listed, missing=report.missing, submitted=report.submitted)
        return report

    async def _buckets(self, folders: Iterable[WatchedFolder], *, handled: datetime | None) -> list[list[_Watcher]]:
        """The watchers of each bucket."""
        memory = await self._memory()
        buckets: dict[tuple[str, str], list[_Watcher]] = defaultdict(list)
        for folder in folders:
            since = reach(memory, defined=folder.definition.at, handled=handled)
            watcher = _Watcher(service=folder.definition, input=folder.input, reach=since)
            buckets[folder.input.storage_provider, folder.input.bucket].append(watcher)
        return list(buckets.values())

    async def _memory(self) -> Memory:
        oldest, newest = await self._log.end(RECEIVED)
        if oldest > newest:
            return Memory(complete=newest == 0, oldest=None)
        try:
            record = await self._log.get(RECEIVED, oldest)
        except NotFoundError:  # dropped just now
            return Memory(complete=False, oldest=self._now())
        return Memory(complete=oldest == 1, oldest=record.time)

    async def _compare(self, watchers: Sequence[_Watcher], wish: Wish, report: Report) -> None:
        """One bucket of one provider."""
        first = watchers[0]
        provider = first.input.storage_provider
        recorded = await self._recorded(watchers, wish)
        requested = await self._requested(first, wish)
        source = seaweedfs_source(provider) if provider in self._streamed else listing_source(provider)
        async with self._stores.open(provider, first.service) as store:
            for path in outermost(watcher.input.path for watcher in watchers):
                objects = list_folder(store, path, provider=provider, source=source)
                await self._compare_folder(objects, _Comparison(watchers, recorded, requested, wish, report))

    async def _compare_folder(self, objects: AsyncIterator[Listed], comparison: _Comparison) -> None:
        batch: list[EventReceived] = []
        async for listed in objects:
            comparison.report.listed += 1
            if (event := self._missing(listed, comparison)) is not None:
                batch.append(event)
            if len(batch) >= _BATCH:
                await self._submit(batch, comparison)
        await self._submit(batch, comparison)

    async def _recorded(self, watchers: Sequence[_Watcher], wish: Wish) -> RecordedObjects:
        """What EVENTS tells of a bucket, as far back as objects are looked at."""
        start = None if wish.backfill else _earliest([_from(watcher, wish) for watcher in watchers])
        keys = {watchers[0].input.bucket} | ({watchers[0].service.name} if wish.backfill else set())
        recorded = RecordedObjects(self._log, keys, since=start and start - _CLOCKS)
        await recorded.read_on()
        return recorded

    async def _requested(self, watcher: _Watcher, wish: Wish) -> RequestedObjects | None:
        if not wish.backfill:
            return None
        requested = RequestedObjects(self._log, watcher.service, watcher.input.bucket)
        await requested.read_on()
        return requested

    def _missing(self, listed: Listed, comparison: _Comparison) -> EventReceived | None:
        """The Event to submit for a listed object; None: none is needed."""
        wish, known = comparison.wish, comparison.recorded.known
        event, modified = listed.event, listed.info.modified
        assert event.artifact is not None
        matching = [watcher for watcher in comparison.watchers if watcher.input.matches(event.artifact)]
        if not matching or self._is_too_young(event, modified):
            return None
        if _is_known(event, known):
            return _never_run(event, matching[0].service, comparison)
        if any((since := _from(watcher, wish)) is not None and modified >= since for watcher in matching):
            return event
        if wish.backfill and (wish.since is None or modified >= wish.since):
            return _for_one(event, matching[0].service)
        return None

    def _is_too_young(self, event: EventReceived, modified: datetime) -> bool:
        assert event.artifact is not None
        return event.artifact.provider not in self._streamed and modified > self._now() - GRACE

    async def _submit(self, batch: list[EventReceived], comparison: _Comparison) -> None:
        """Publish what was gathered and is missing still, unless it is a dry run; empties the batch.

        EVENTS is read on first: a listing may take longer than the bus remembers ids, and Sources publish meanwhile.
        """
        if not batch:
            return
        await comparison.recorded.read_on()
        if comparison.requested is not None:
            await comparison.requested.read_on()
        missing = [event for event in batch if not _is_known(event, comparison.known_for(event))]
        batch.clear()
        comparison.report.missing += len(missing)
        if comparison.wish.dry_run:
            return
        outcomes = await asyncio.gather(*map(self._publish, missing), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        new = sum(outcome is True for outcome in outcomes)
        comparison.report.submitted += new
        RECONCILED.inc(new)


def _is_known(event: EventReceived, known: KnownObjects) -> bool:
    return event.artifact is not None and known.has(event.artifact, modified=event.time)


def _never_run(event: EventReceived, definition: ServiceDefined, comparison: _Comparison) -> EventReceived | None:
    """For an object that EVENTS knows: the Event of a backfill, if it was there before the Service; else None."""
    wish, requested = comparison.wish, comparison.requested
    if requested is None or _is_known(event, requested.known):
        return None
    if wish.since is not None and event.time < wish.since:
        return None
    return _for_one(event, definition)


def _from(watcher: _Watcher, wish: Wish) -> datetime | None:
    """From when on this Trigger's objects are submitted for all that watch them; None: none are."""
    if wish.since is None or watcher.reach is None:
        return watcher.reach
    return max(watcher.reach, wish.since)


def _earliest(times: Iterable[datetime | None]) -> datetime | None:
    known = [time for time in times if time is not None]
    return min(known) if known else None


def _for_one(event: EventReceived, definition: ServiceDefined) -> EventReceived:
    """The Event for one Service alone, so that others that had the object long ago are left in peace."""
    identity = EventId(derive_id("backfill", definition.name, event.id))
    return event.model_copy(update={"id": identity, "service": definition.name})
