"""One look at all Workers: whose they are, and what they take. There may be many more of them than Services."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.snapshot import Worker, WorkerState


class Room:
    """What some Workers take together."""

    __slots__ = ("cpu", "memory", "workers")

    def __init__(self) -> None:
        self.cpu = self.memory = self.workers = 0

    def add(self, cpu: int, memory: int, workers: int) -> None:
        """So many more, with their sums."""
        self.cpu += cpu
        self.memory += memory
        self.workers += workers


class Muster:
    """All Workers of one round."""

    def __init__(self, workers: Iterable[Worker]) -> None:
        by_service = defaultdict[ServiceName, list[Worker]](list)
        rooms = defaultdict[tuple[str, str, WorkerState], Room](Room)
        for worker in workers:
            by_service[worker.service].append(worker)
            room = rooms[worker.owner, worker.pool, worker.state]
            room.cpu += worker.cpu_millicores
            room.memory += worker.memory_bytes
            room.workers += 1
        self.by_service: Mapping[ServiceName, Sequence[Worker]] = by_service
        self.rooms: Mapping[tuple[str, str, WorkerState], Room] = rooms
        """By owner, Pool and state."""
