"""One look at all Workers: whose they are, and what they take. There may be many more of them than Services."""

from __future__ import annotations

from collections.abc import Iterable

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
        self.by_service: dict[ServiceName, list[Worker]] = {}
        self.rooms: dict[tuple[str, str, WorkerState], Room] = {}
        """By owner, Pool and state."""
        for worker in workers:
            others = self.by_service.get(worker.service)
            if others is None:
                self.by_service[worker.service] = [worker]
            else:
                others.append(worker)
            place = worker.owner, worker.pool, worker.state
            room = self.rooms.get(place)
            if room is None:
                room = self.rooms[place] = Room()
            room.cpu += worker.cpu_millicores
            room.memory += worker.memory_bytes
            room.workers += 1
