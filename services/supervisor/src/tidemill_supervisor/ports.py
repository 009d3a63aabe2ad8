"""What the use cases of a Worker need from outside, beside the bus and the stores."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from tidemill_common.contracts.invocation import Reason
from tidemill_common.errors import TidemillError
from tidemill_common.storage import ObjectStore
from tidemill_supervisor.domain.environment import Place

Clock = Callable[[], datetime]
"""Aware time of day."""
Jitter = Callable[[], float]
"""Numbers in [0, 1)."""
Sink = Callable[[bytes], None]
"""Takes what a script writes, as it comes; never blocks."""


class StartError(TidemillError):
    """A script could not be started; says why."""


class ContainerEndedError(TidemillError):
    """The user's container ended while a script ran there; says why, in the words of what ran it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoContainerError(TidemillError):
    """The user's container is gone, so nothing was started: another Worker shall have the Invocation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, where, with which environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    """Beside what the script sees anyway: `DEFAULTS` of `domain.environment`, or what its image sets."""
    directory: Path
    file_limit_bytes: int | None = None
    """No file that it writes may grow beyond this; None: no limit."""
    memory_limit_bytes: int | None = None
    """Address space of each of its processes; None: no limit."""


class Running(Protocol):
    """A script that was started, with all processes that it started itself."""

    async def wait(self) -> int:
        """Its exit code, negative: the signal that ended it. Its children may still run.

        Raises:
            StartError: As `Scripts.start`, where that is known only later.
            ContainerEndedError: It ended with its container.
        """
        ...

    def signal(self, number: signal.Signals) -> None:
        """Signal all of its process group; when nothing is left, nothing happens."""
        ...

    async def clear(self) -> None:
        """Kill all that it started and that still runs, also what left its group; then read its output to the end."""
        ...


class Scripts(Protocol):
    """Runs scripts."""

    async def ready(self) -> None:
        """Return when scripts can be started; before that nothing is leased.

        Raises:
            UnavailableError: That took too long.
        """
        ...

    async def over(self) -> str:
        """Wait until no script can be started any more, so that the Worker has to end; says why."""
        ...

    def start(self, command: Command, place: Place, sink: Sink) -> Running:
        """Start one, its output going to `sink`.

        Raises:
            StartError: There is no such interpreter, or the environment is too large, or the system has no room.
            NoContainerError: It is `over`.
        """
        ...

    def memory_kills(self) -> int:
        """How often the kernel has killed in this memory group for want of memory; only differences mean something."""
        ...

    async def wipe(self, workspace: Path) -> None:
        """Remove a workspace with all that is in it, whoever user code ran as. One that resists makes it `over`."""
        ...


class Stores(Protocol):
    """The providers that a Service can reach, opened when they are first used."""

    @property
    def pauses(self) -> Sequence[timedelta]:
        """Before each further try of what a store does not answer."""
        ...

    def is_shared(self, provider: str) -> bool:
        """Whether this provider is reached with the platform's keys, not with the Service's own."""
        ...

    async def open(self, provider: str) -> ObjectStore:
        """The store behind a provider's name.

        Raises:
            NotFoundError: There are no credentials for this provider.
            UnsupportedError: No adapter can talk to this kind.
            InvalidInputError: Its credentials are incomplete.
        """
        ...
