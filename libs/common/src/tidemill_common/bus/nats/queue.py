"""Work queues on JetStream: work-queue Streams sharded by Service, one durable Consumer for each lane of a Service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from tidemill_common.bus import WORK_AVAILABLE, Backlog, Leases
from tidemill_common.bus.addresses import later_subject, service_token, shard_of, work_stream, work_subject
from tidemill_common.bus.backlogs import backlogs
from tidemill_common.bus.nats.capacity import Capacity
from tidemill_common.bus.nats.leases import leasing
from tidemill_common.bus.nats.messages import schedule_headers
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.bus.wakes import Wakes
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.errors import TransientError
from tidemill_common.settings import BusSettings


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
        target = work_subject(shard, service, lane)
        headers: dict[str, str] = {"Nats-Msg-Id": invocation.id}
        subject = target
        if not_before is not None and not_before > datetime.now(UTC):
            subject = later_subject(shard, service, lane, invocation.id)
            headers |= schedule_headers(not_before, target)
        body = invocation.encode()
        await self._capacity.admit(shard, len(body))
        stored = await self._wire.store(subject, body, headers)
        self._wakes.wake(invocation.service)
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
        """What waits, of every Service that has something: one call for each shard, two where retries wait."""
        shards = await asyncio.gather(*(self._waiting(shard) for shard in range(self._settings.shards)))
        return backlogs(pair for shard in shards for pair in shard)

    async def _waiting(self, shard: int) -> list[tuple[str, int]]:
        stream = work_stream(shard)
        state = await self._subjects(stream, f"work.{shard}.>")
        found = list(_pairs(state))
        if int(state["messages"]) > sum(number for _, number in found):
            found += _pairs(await self._subjects(stream, f"later.{shard}.>"))
        return found

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
        dropped = 0
        for wanted in (f"work.{shard}.{service}.>", f"later.{shard}.{service}.>"):
            answer = await self._wire.api(f"STREAM.PURGE.{work_stream(shard)}", {"filter": wanted})
            dropped += int(answer.get("purged", 0))
        return dropped

    async def close(self) -> None:
        """Send the last wake-ups."""
        await self._wakes.close()


def _pairs(state: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield from (state.get("subjects") or {}).items()
