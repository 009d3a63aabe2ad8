"""The bus port: logs, work queues, live messages and registers, in our own words.

Adapters: `nats` (JetStream), `memory` (the in-process twin). `tidemill_common.bus.opening.open_bus` picks one by URL.
Every adapter passes `tests/contract/bus`. Delivery is at least once everywhere; ids make repeats harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, NewType, Protocol, TypeVar

from tidemill_common.contracts.contract import Contract, ServiceName, Subject
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import DeadLetter, Invocation
from tidemill_common.contracts.retry import RetryAsked

__all__ = [
    "Backlog",
    "Bus",
    "Capability",
    "Delivery",
    "Lease",
    "Leases",
    "Live",
    "Log",
    "Position",
    "Record",
    "Register",
    "Registers",
    "StreamChange",
    "Streams",
    "WorkQueue",
]

Position = NewType("Position", int)
"""Place of a record in its Stream, counted from 1, without meaning beyond order and resuming."""

M = TypeVar("M", bound=Contract)
M_co = TypeVar("M_co", bound=Contract, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[M_co]):
    """One stored message."""

    subject: str
    position: Position
    time: datetime
    """When the bus stored it."""
    body: M_co


class Delivery(Protocol[M_co]):
    """One hand-over of a record to a competing consumer; answered once, with one of its methods."""

    @property
    def record(self) -> Record[M_co]: ...

    @property
    def number(self) -> int:
        """Counted from 1 by the bus."""
        ...

    async def ack(self) -> None:
        """It is handled. Returns when the bus has confirmed.

        Raises:
            UnavailableError: The bus did not confirm; the record may be delivered again.
        """
        ...

    async def nak(self, delay: timedelta = timedelta()) -> None:
        """Deliver it again, not before `delay`."""
        ...


class Log(Protocol):
    """Durable ordered logs: EVENTS, LIFECYCLE, DEFINITIONS, LOGS, DEAD (see `bus.streams`).

    RETRIES is for `consume` alone: a record is gone when it is acknowledged.
    """

    async def append(self, subject: Subject[M], body: M, *, key: str, message_id: str | None = None) -> Position | None:
        """Store one record and wait until the bus has acknowledged it.

        Args:
            key: Fills `{key}` of the subject; made a token by `subject_token`. `{service}.{invocation}` for LOGS.
            message_id: Equal ids within the Stream's duplicate window are stored once.

        Returns:
            Its position; None: a record with this `message_id` was there already (that is success).

        Raises:
            ThrottledError: The Stream is full and takes nothing (back-pressure), with `retry_after`.
            UnavailableError: The bus does not answer.
            OutcomeUnknownError: The connection broke while waiting; repeat with the same `message_id`.
        """
        ...

    def read(
        self,
        subject: Subject[M],
        *,
        start: Position | datetime | None = None,
        key: str | None = None,
        follow: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Record[M]]]:
        """Records in order. Each call reads for itself; survives reconnects and server restarts without gap or repeat.

        Args:
            start: First position to read, or the time of the first record; None: from the oldest that is kept.
            key: Only this key (a Service); None: all.
            follow: Go on with what arrives; else end at what was the end when reading began.
            A body that breaks its contract is skipped and logged with its position (it cannot be handled by waiting).
        """
        ...

    def consume(
        self,
        subject: Subject[M],
        *,
        consumer: str,
        in_flight: int = 256,
        answer_within: timedelta = timedelta(seconds=30),
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery[M]]]:
        """Competing consumers: each record goes to one of those that named the same durable `consumer`.

        What is not answered in time is delivered again. Begins at the oldest record that is kept.

        Args:
            in_flight: At most so many unanswered here.
            answer_within: The consumer's acknowledgement time, the same for all that name it.
        """
        ...

    async def end(self, subject: Subject[M]) -> tuple[Position, Position]:
        """(oldest kept, newest) position of the subject's Stream; oldest is newest + 1 when it is empty."""
        ...

    async def get(self, subject: Subject[M], position: Position) -> Record[M]:
        """One record.

        Raises:
            NotFoundError: Nothing is kept at this position.
        """
        ...

    async def delete(self, subject: Subject[M], position: Position) -> bool:
        """Remove one record (dead letters that were redriven or purged); False: it was not there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits for one Service, leased Invocations included."""

    interactive: int = 0
    batch: int = 0
    delayed: int = 0
    """Retries whose time has not come, or that are asked for and not stored yet."""

    @property
    def ready(self) -> int:
        """Invocations that can run now, or run already."""
        return self.interactive + self.batch


class Lease(Protocol):
    """A Worker's time-limited right to one Invocation. Answered once; unanswered, it ends by itself at `deadline`."""

    @property
    def invocation(self) -> Invocation: ...

    @property
    def lane(self) -> Lane: ...

    @property
    def attempt(self) -> int:
        """This execution's number, counted from 1; grows with each retry and each lost Lease."""
        ...

    @property
    def failures(self) -> int:
        """How many Attempts before this one were answered with `retry`."""
        ...

    @property
    def lost(self) -> int:
        """How many Leases since the last `retry` ended without one: lost, or given back by `release`."""
        ...

    @property
    def deadline(self) -> datetime:
        """When the Lease ends unless it is extended."""
        ...

    async def done(self) -> None:
        """The Invocation is finished. Returns when the bus has confirmed.

        Raises:
            UnavailableError: Not confirmed; another Attempt may follow.
        """
        ...

    async def retry(self, delay: timedelta, reason: str) -> None:
        """Ask for the next Attempt, on RETRIES; survives a restart of the bus. Stored before this one is answered.

        The next Attempt comes when a component has passed the ask to `WorkQueue.plan`; until then it waits.

        Raises:
            LeaseLostError: `deadline` has passed: another Attempt is under way.
        """
        ...

    async def dead(self, letter: DeadLetter) -> None:
        """Set the Invocation aside; stored on DEAD before this Lease is answered."""
        ...

    async def release(self) -> None:
        """Give it back at once, unfinished (drain)."""
        ...

    async def extend(self) -> None:
        """Push `deadline` out by the lease time.

        Raises:
            LeaseLostError: `deadline` has passed. The Lease keeps its slot until it is answered: `release` it.
            While there is time, a bus that does not answer is no error: `deadline` stays, extend again.
        """
        ...


class Leases(Protocol):
    """The stream of one Worker's Leases: at most `slots` unanswered at a time, interactive lane first."""

    def __aiter__(self) -> AsyncIterator[Lease]: ...

    def allow(self, slots: int) -> None:
        """From now on at most so many unanswered. With fewer, what is held, or was asked for, is not given back."""
        ...

    def stop(self) -> None:
        """Lease no more: iteration ends; Leases already handed out stay theirs."""
        ...


class WorkQueue(Protocol):
    """The work queues of all Services, one pair of lanes each."""

    async def submit(
        self, invocation: Invocation, *, lane: Lane | None = None, not_before: datetime | None = None
    ) -> bool:
        """Queue one Invocation; its id is deduplicated within the window. Lane None: the Invocation's own.

        Returns:
            False: it was queued already.

        Raises:
            ThrottledError: The queue is full.
            UnavailableError, OutcomeUnknownError: Not (certainly) stored: repeat.
        """
        ...

    async def plan(self, retry: RetryAsked) -> bool:
        """Queue the Attempt that a Lease asked for; never refused for being full. Nothing but the ask's fields is used.

        Whoever calls it has checked that the ask is about a Service and an Invocation that its sender may ask for.

        Returns:
            False: it was queued already (known within the window).

        Raises:
            UnavailableError, OutcomeUnknownError: Not (certainly) stored: repeat.
        """
        ...

    def leases(self, service: ServiceName, *, slots: int) -> AbstractAsyncContextManager[Leases]:
        """Lease this Service's Invocations, as many at a time as slots are free."""
        ...

    async def backlog(self) -> Mapping[ServiceName, Backlog]:
        """What waits, of every Service that has something, in one call (a few calls where the queue is sharded)."""
        ...

    async def purge(self, service: ServiceName) -> int:
        """Drop all that waits for a Service that was removed; returns how many Invocations."""
        ...


class Live(Protocol):
    """Messages that are seen by whoever listens now, and kept nowhere."""

    async def publish(self, subject: str, body: bytes) -> None:
        """Tell whoever listens; nobody need to."""
        ...

    def subscribe(self, subject: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """(subject, body) of what is published from now on; `*` and `>` are wildcards. Slow readers lose the oldest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """A small named value with a revision."""

    value: bytes
    revision: int
    time: datetime
    """When the bus stored it."""


class Registers(Protocol):
    """Small named values with compare-and-set: cursors, leader leases, stream plans."""

    async def get(self, name: str) -> Register | None: ...

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        """Set it and return the new revision.

        Args:
            name: Tokens `[A-Za-z0-9_-]+` with dots between them.
            revision: Only if it still has this revision; 0: only if it does not exist; None: whatever it is.

        Raises:
            ConflictError: It has another revision.
        """
        ...

    async def delete(self, name: str) -> None: ...


class StreamAction(StrEnum):
    """What a plan would do with a Stream."""

    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChange:
    """One line of a plan: `stream` differs from the table in `fields` (name -> (is, should be))."""

    stream: str
    action: StreamAction
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)


class Streams(Protocol):
    """The Streams as one table in code (`bus.streams`), changed only by applying a plan."""

    async def plan(self) -> Sequence[StreamChange]:
        """What differs between the server and the table; empty: nothing."""
        ...

    async def apply(self, changes: Sequence[StreamChange]) -> None:
        """Carry out a plan.

        Raises:
            UnsupportedError: A change would lose data (RECREATE of a Stream that is not empty).
        """
        ...


class Capability(StrEnum):
    """What a bus may or may not be able to do; start-up refuses a configuration that needs a missing one."""

    WORK_QUEUE = "work-queue"
    DELAYED_RETRY = "delayed-retry"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """An open bus. Closed by whoever opened it."""

    log: Log
    queue: WorkQueue
    live: Live
    registers: Registers
    streams: Streams
    capabilities: frozenset[Capability]


WORK_AVAILABLE = "live.work.{service}"
"""Live subject on which `submit` says that a Service has work (throttled, may be lost); the scheduler listens."""
