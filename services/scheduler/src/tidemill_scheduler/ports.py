"""What the scheduler needs from outside, beside the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tidemill_common.contracts.contract import ServiceName, WorkerId


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWorker:
    """A Worker that was started and has not ended."""

    spec: WorkerSpec
    started_at: datetime
    is_draining: bool = False
    is_adopted: bool = False
    """An earlier scheduler process started it."""


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


class Launcher(Protocol):
    """Starts and stops Workers in one Pool."""

    async def adopt(self) -> None:
        """Find the Workers that earlier scheduler processes started; clean up after those that ended meanwhile."""
        ...

    async def start(self, worker: WorkerSpec) -> None:
        """Start the Worker; starting it twice is the same as starting it once.

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
