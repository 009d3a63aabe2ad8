"""Work queues on JetStream: work-queue Streams sharded by Service, one durable Consumer for each lane of a Service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tidemill_common.bus import WORK_AVAILABLE, Backlog, Leases
from tidemill_common.bus.addresses import (
    RETRIES,
    address,
    later_subject,
    service_token,
    shard_of,
    work_stream,
    work_subject,
)
from tidemill_common.bus.backlogs import backlogs
from tidemill_common.bus.nats.capacity import Capacity
from tidemill_common.bus.nats.leases import leasing
from tidemill_common.bus.nats.messages import MESSAGE_ID, attempt_headers, schedule_headers
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.bus.wakes import Wakes
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import TransientError
from tidemill_common.settings import BusSettings


class _Place(NamedTuple):
    """Where an Invocation waits."""

    shard: int
    service: str
    lane: Lane
    invocation: str


class NatsWorkQueue:
    """The work queues of all Services."""

    def __init__(self, wire: Wire, settings: BusSettings) -> None:
        self._wire = wire
        self._settings = settings
        self._capacity = Capacity(wire, settings)
        self._wakes = Wakes(self._wake)

    async def submit(
        self, invocation: Invocation, *, lane: Lane | None = None, not_before: datetime | None = None
    ) -> bool:
        """Queue one Invocation; see `WorkQueue.submit`."""
        service, lane = service_token(invocation.service), lane or invocation.lane
        shard = shard_of(service, self._settings.shards)
        place = _Place(shard, service, lane, invocation.id)
        body = invocation.encode()
        await self._capacity.admit(shard, len(body))
        return await self._store(place, body, {MESSAGE_ID: invocation.id}, not_before)

    async def plan(self, retry: RetryAsked) -> bool:
        """Queue the Attempt that a Lease asked for; see `WorkQueue.plan`."""
        service = service_token(retry.service)
        place = _Place(shard_of(service, self._settings.shards), service, retry.lane, retry.invocation_id)
        return await self._store(place, retry.invocation, attempt_headers(retry), retry.not_before)

    async def _store(self, place: _Place, body: bytes, headers: Mapping[str, str], not_before: datetime | None) -> bool:
        subject = target = work_subject(place.shard, place.service, place.lane)
        if not_before is not None and not_before > datetime.now(UTC):
            subject = later_subject(place.shard, place.service, place.lane, place.invocation)
            headers = {**headers, **schedule_headers(not_before, target)}
        stored = await self._wire.store(subject, body, headers)
        self._wakes.wake(place.service)
        return not stored.duplicate

    async def _wake(self, service: str) -> None:
        try:
            await self._wire.tell(WORK_AVAILABLE.format(service=service))
        except TransientError:
            return  # the scheduler also looks by itself

    def leases(self, service: ServiceName, *, slots: int) -> AbstractAsyncContextManager[Leases]:
        """Lease this Service's Invocations; see `WorkQueue.leases`."""
        shard = shard_of(service_token(service), self._settings.shards)
        return leasing(self._wire, self._settings.lease, shard=shard, service=service, slots=slots)

    async def backlog(self) -> Mapping[ServiceName, Backlog]:
        """What waits, of every Service that has something: a call for asks, one for each shard, two more for retries.

        Looked at in the order in which Attempts go on, so that one is found twice at most, and never nowhere.
        """
        asked = await self._asked()
        found = await asyncio.gather(*(self._waiting(shard) for shard in range(self._settings.shards)))
        return backlogs(pair for pairs in (asked, *found) for pair in pairs)

    async def _asked(self) -> list[tuple[str, int]]:
        """Retries that nobody has stored yet."""
        return list(_pairs(await self._subjects(RETRIES, RETRY_ASKED.wildcard)))

    async def _waiting(self, shard: int) -> list[tuple[str, int]]:
        stream, ready, later = work_stream(shard), f"work.{shard}.>", f"later.{shard}.>"
        state = await self._subjects(stream, ready)
        found = list(_pairs(state))
        if int(state["messages"]) <= sum(number for _, number in found):
            return found
        planned = list(_pairs(await self._subjects(stream, later)))
        return planned + list(_pairs(await self._subjects(stream, ready)))

    async def _subjects(self, stream: str, wanted: str) -> dict[str, Any]:
        """The Stream's state with the number of messages of each subject, from as many pages as there are."""
        query: dict[str, object] = {"subjects_filter": wanted}
        info = await self._wire.api(f"STREAM.INFO.{stream}", query)
        state: dict[str, Any] = info["state"]
        subjects: dict[str, int] = state.setdefault("subjects", {})
        while len(subjects) < int(info.get("total", 0)):
            page = await self._wire.api(f"STREAM.INFO.{stream}", {**query, "offset": len(subjects)})
            more = page["state"].get("subjects") or {}
            if not more:
                break
            subjects |= more
        return state

    async def purge(self, service: ServiceName) -> int:
        """Drop all that waits for a Service; see `WorkQueue.purge`."""
        shard = shard_of(service_token(service), self._settings.shards)
        work = work_stream(shard)
        dropped = await self._purge(RETRIES, address(RETRY_ASKED, service))  # first: what is asked for moves to WORK
        for wanted in (f"work.{shard}.{service}.>", f"later.{shard}.{service}.>"):
            dropped += await self._purge(work, wanted)
        return dropped

    async def _purge(self, stream: str, wanted: str) -> int:
        answer = await self._wire.api(f"STREAM.PURGE.{stream}", {"filter": wanted})
        return int(answer.get("purged", 0))

    async def close(self) -> None:
        """Send the last wake-ups."""
        await self._wakes.close()


def _pairs(state: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield from (state.get("subjects") or {}).items()
