"""A launcher in memory, for rounds of the scheduler without processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tidemill_common.contracts.contract import WorkerId
from tidemill_common.contracts.service import Service
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.ports import RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec


@dataclass
class Host:
    """Workers that do what they are told, at once; they wait for room, so that nobody minds their silence."""

    room: Pool
    running: dict[WorkerId, RunningWorker] = field(default_factory=dict)
    looks: int = 0

    async def adopt(self) -> None:
        pass

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        self.running[worker.id] = RunningWorker(spec=worker, started_at=datetime.now(UTC), is_pending=True)

    async def stop(self, worker: WorkerId) -> None:
        del self.running[worker]

    async def kill(self, worker: WorkerId) -> None:
        del self.running[worker]

    def workers(self) -> Sequence[RunningWorker]:
        self.looks += 1
        return list(self.running.values())

    async def exits(self) -> AsyncIterator[WorkerEnded]:
        for ended in await asyncio.get_running_loop().create_future():
            yield ended

    async def notices(self) -> AsyncIterator[WorkerNotice]:
        for notice in await asyncio.get_running_loop().create_future():
            yield notice

    def pool(self) -> Pool | None:
        return self.room

    async def close(self) -> None:
        pass
