"""What the scheduler needs from outside, beside the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_scheduler.domain.snapshot import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A Worker to start."""

    id: WorkerId
    service: ServiceName
    owner: str
    pool: str
    revision: int
    slots: int
    cpu_millicores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a Worker ended or cannot run, in the words of what runs it."""

    reason: str
    """One word of its vocabulary: `OOMKilled`, `Evicted`, `ImagePullBackOff`, `Unschedulable`, …"""
    message: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWorker:
    """A Worker that was started and has not ended."""

    spec: WorkerSpec
    started_at: datetime
    """Since when it could run: a Worker that is pending has not begun."""
    is_draining: bool = False
    is_adopted: bool = False
    """An earlier scheduler process started it."""
    is_pending: bool = False
    """It waits for room or for its image, so its silence says nothing."""
    is_cut_off: bool = False
    """What runs it has lost sight of it: whether it lives shows in its reports alone."""
    trouble: Cause | None = None
    """What keeps it from running, as long as that may pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded:
    """A Worker has ended, and nothing of it is left."""

    spec: WorkerSpec
    was_draining: bool
    """It was asked to end."""
    exit_code: int | None = None
    """None: killed by a signal, or unknown (it was adopted)."""
    signal: int | None = None
    last_line: str = ""
    """Last line of its output."""
    cause: Cause | None = None
    """What its platform says; None: nothing beyond the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNotice:
    """User code's container has ended under a Worker that has not, or its room is being taken away: the Worker is told
    why (`live.cause`)."""

    spec: WorkerSpec
    cause: Cause


class Launcher(Protocol):
    """Starts and stops Workers in one Pool."""

    async def adopt(self) -> None:
        """Find the Workers that earlier scheduler processes started; clean up after those that ended meanwhile."""
        ...

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        """Start the Worker of this definition; starting it twice is the same as starting it once.

        Raises:
            UnavailableError: It could not be started now; says why.
        """
        ...

    async def stop(self, worker: WorkerId) -> None:
        """Ask it to drain: finish its Invocations, then end. One that is not there is success."""
        ...

    async def kill(self, worker: WorkerId) -> None:
        """End it at once, with everything that it started."""
        ...

    def workers(self) -> Sequence[RunningWorker]:
        """All that have not ended, those that drain included."""
        ...

    def exits(self) -> AsyncIterator[WorkerEnded]:
        """Each Worker's end, once, as it happens; for one reader."""
        ...

    def notices(self) -> AsyncIterator[WorkerNotice]:
        """What Workers should know of their user code's containers, as it happens; for one reader."""
        ...

    def pool(self) -> Pool | None:
        """What is there to fill now; None: as the settings say."""
        ...

    async def close(self) -> None:
        """Stop watching. Workers go on; the next scheduler process adopts them."""
        ...


@runtime_checkable
class Tender(Protocol):
    """A launcher that keeps things for Services beside their Workers."""

    async def tend(self, definitions: Mapping[ServiceName, Service], removed: Set[ServiceName]) -> None:
        """Have what these Services need, and nothing of the removed ones. Called in each round; does not wait."""
        ...


@runtime_checkable
class ImageKeeper(Protocol):
    """A launcher that has images of Services where it runs."""

    def image_views(self) -> Sequence[Mapping[str, Any]]:
        """Each with `image`, `state` (`present`, `pulling`, `failed`), `done_bytes`, `total_bytes` and `message`."""
        ...
