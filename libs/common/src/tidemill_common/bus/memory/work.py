"""What all connections to one in-process bus share of the work queues: given back comes first, then in order."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import TypeVar

from tidemill_common.bus.addresses import address
from tidemill_common.bus.memory.clock import Clock
from tidemill_common.bus.memory.signal import Signal
from tidemill_common.bus.memory.stream import DuplicateWindow, MemoryStream
from tidemill_common.contracts.contract import Contract, ServiceName, Subject
from tidemill_common.contracts.event import Lane

M = TypeVar("M", bound=Contract)


@dataclass(slots=True, eq=False)
class Work:
    """One Invocation on the queue."""

    position: int
    service: ServiceName
    lane: Lane
    body: bytes
    attempt: int = 1
    failures: int = 0
    delivered: int = 0
    lease: int = 0
    """Number of the Lease that holds it; 0: nobody does."""
    deadline: datetime | None = None
    """When that Lease ends."""
    delayed: bool = False
    ended: bool = False

    def __lt__(self, other: Work) -> bool:
        return self.position < other.position


class WorkStore:
    """Everything that is queued, leased or planned."""

    def __init__(self, clock: Clock, dead: MemoryStream, asked: MemoryStream) -> None:
        self.clock = clock
        self.asked = asked
        """RETRIES."""
        self.changed = Signal()
        self.seen = DuplicateWindow(clock)
        self.all: dict[int, Work] = {}
        self.positions = count(1)
        self._dead = dead
        self._waiting: dict[tuple[ServiceName, Lane], list[Work]] = defaultdict(list)
        self._lease_numbers = count(1)

    def add(self, work: Work, not_before: datetime | None = None) -> None:
        """Queue it, or plan it."""
        self.all[work.position] = work
        if not_before is None or not_before <= self.clock.now():
            self.offer(work)
            return
        work.delayed = True
        self.clock.call_at(not_before, lambda: self.offer(work))

    def offer(self, work: Work) -> None:
        """Let whoever leases next have it."""
        if work.ended:
            return
        work.delayed, work.lease = False, 0
        heapq.heappush(self._waiting[work.service, work.lane], work)
        self.changed.fire()

    def take(self, service: ServiceName, length: timedelta) -> tuple[Work, datetime] | None:
        """The next Invocation, interactive first, leased; None: there is none."""
        for lane in Lane:
            queue = self._waiting[service, lane]
            while queue:
                work = heapq.heappop(queue)
                if not work.ended:
                    work.delivered += 1
                    work.lease = next(self._lease_numbers)
                    return work, self.hold(work, work.lease, length)
        return None

    def hold(self, work: Work, lease: int, length: timedelta) -> datetime:
        """Until when this Lease has it; then it goes to somebody else, unless it is held again before."""
        deadline = work.deadline = self.clock.now() + length

        def end() -> None:
            if work.lease == lease and work.deadline == deadline:
                self.offer(work)

        self.clock.call_at(deadline, end)
        return deadline

    def end(self, work: Work) -> None:
        """Nobody will have it again."""
        work.ended = True
        self.all.pop(work.position, None)

    def set_aside(self, subject: Subject[M], body: M, service: str, message_id: str) -> None:
        """Keep something on DEAD."""
        self._dead.append(address(subject, service), body.encode(), message_id)
