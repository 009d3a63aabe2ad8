"""What planning sees and says: values only, small enough that 10 000 Services fit into one round.

A Worker needs the `cpu` and `memory` of its Service, whatever its slots (OSCAR's meaning: of one container).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.quantity import millicores, size_bytes
from tidemill_scheduler.domain.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Named capacity. Planning fills its total; which node a Worker lands on is the Pool's own business.

    Of nodes planning only knows that one Worker must fit on one. What is left over in small pieces stays with the Pool:
    a Worker that finds no node waits there (as a pending pod does) and is counted as if it ran.
    """

    name: str
    cpu_millicores: int
    memory_bytes: int
    nodes: int = 1
    """Equal nodes that share the total."""
    max_starting: int | None = None
    """Workers that may start at the same time, since a start costs CPU; None: any number."""
    beside_cpu_millicores: int = 0
    """What each Worker takes beside what its Service asks for, as a supervisor's container does. No quota counts it."""
    beside_memory_bytes: int = 0

    def holds(self, cpu_millicores: int, memory_bytes: int) -> bool:
        """Whether an empty node has room for such a Worker."""
        cpu, memory = cpu_millicores + self.beside_cpu_millicores, memory_bytes + self.beside_memory_bytes
        return cpu * self.nodes <= self.cpu_millicores and memory * self.nodes <= self.memory_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """A Service, as far as planning needs it."""

    service: ServiceName
    owner: str
    cpu_millicores: int
    memory_bytes: int
    revision: int = 1
    slots: int = 1
    batch: int = 1
    """Invocations that one slot takes together."""
    priority: int = 0
    min_scale: int = 0
    limit: int | None = None
    """Most Workers at a time: the least of `max_scale` and what `total_cpu`, `total_memory` hold; None: any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Most that the Workers of one owner may take at a time; None: any amount."""

    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    workers: int | None = None


class WorkerState(StrEnum):
    """How far a Worker is."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    """It finishes what it has and ends; until then it takes room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A Worker that takes room now."""

    id: WorkerId
    service: ServiceName
    owner: str
    pool: str
    revision: int
    cpu_millicores: int
    memory_bytes: int
    started_at: datetime
    state: WorkerState = WorkerState.RUNNING
    idle_since: datetime | None = None
    """None: it has Invocations, or has not said."""


class StartReason(StrEnum):
    """Why a Worker is started."""

    BACKLOG = "backlog"
    WARM = "warm"
    """To have `min_scale` of them."""


class StopReason(StrEnum):
    """Why a Worker is asked to finish what it has and to end."""

    IDLE = "idle"
    """Without work for the idle timeout."""
    PREEMPTED = "preempted"
    """Idle, and others below their share need the room at once."""
    FAIR_SHARE = "fair-share"
    """Busy, and others below their share wait for its room."""
    OVER_LIMIT = "over-limit"
    """Capacity or quota was made smaller."""
    OUTDATED = "outdated"
    """The Service has a newer revision."""
    REMOVED = "removed"
    """There is no such Service any more."""


class Blocked(StrEnum):
    """Why a Service with work gets no Worker at all."""

    TOO_LARGE = "too-large"
    """No node of any Pool, or its owner's quota, holds one Worker; or its own total does not."""
    BACKOFF = "backoff"
    """Its Workers fail; the next try is later."""


class Start(NamedTuple):
    """Start one Worker of a Service."""

    service: ServiceName
    pool: str
    reason: StartReason


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask one Worker to drain."""

    worker: WorkerId
    service: ServiceName
    reason: StopReason


class Outlook(NamedTuple):
    """What planning thinks of one Service."""

    desired: int
    """Workers that its backlog and `min_scale` ask for, within its own limit."""
    target: int
    """Workers that are its fair share now."""
    blocked: Blocked | None = None


NO_LIMIT: Final = Quota()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that one round of planning looks at."""

    now: datetime
    pools: Sequence[Pool]
    services: Mapping[ServiceName, Needs]
    backlog: Mapping[ServiceName, Backlog]
    workers: Sequence[Worker] = ()
    warm: Sequence[ServiceName] = ()
    """Services with a `min_scale`; so that planning need not look at all that are defined."""
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    default_quota: Quota = NO_LIMIT
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of owners; 1 when absent."""
    failures: Mapping[ServiceName, Failure] = field(default_factory=dict)
    served: Mapping[ServiceName, datetime] = field(default_factory=dict)
    """When a Worker of the Service was last told to end, or ended: who waited longest goes first among equals."""
    idle_timeout: timedelta = timedelta(seconds=60)
    turn: timedelta = timedelta(seconds=30)
    """How long a Service keeps its only Worker when there are more Services than fit: then it is another's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now."""

    starts: Sequence[Start] = ()
    """Most urgent first."""
    stops: Sequence[Stop] = ()
    outlook: Mapping[ServiceName, Outlook] = field(default_factory=dict)
    """Of each active Service."""


def needs_of(service: Service, *, revision: int) -> Needs:
    """What planning needs to know of a definition.

    Raises:
        InvalidInputError: A quantity cannot be read.
    """
    cpu, memory = max(1, millicores(service.cpu)), max(1, size_bytes(service.memory))
    limits = [service.synchronous.max_scale] if service.synchronous.max_scale else []
    limits += [millicores(service.total_cpu) // cpu] if service.total_cpu.strip() else []
    limits += [size_bytes(service.total_memory) // memory] if service.total_memory.strip() else []
    return Needs(
        service=service.name,
        owner=service.owner,
        revision=revision,
        cpu_millicores=cpu,
        memory_bytes=memory,
        slots=service.slots,
        batch=service.batch.size if service.batch else 1,
        priority=service.priority,
        min_scale=service.synchronous.min_scale,
        limit=min(limits) if limits else None,
    )
