"""Exposed Services between gateway and scheduler: what is wanted beside the definition, and what runs.

Both are registers, the newest value of each Service: `exposed.<service>` is written by the gateway,
`exposed-state.<service>` by the leading scheduler. A live message tells of each change, so that nobody waits for the
next look.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, ConfigDict, Field

from tidemill_common.contracts.contract import Contract, ServiceName

WISHES: Final = "live.exposed.*"
STATES: Final = "live.exposed-state.*"
"""Carry an `ExposedState`."""
LOGS: Final = "live.exposed-logs"
"""Carries a `LogsAsked`; the leading scheduler answers with `LogsAnswered`."""


def wish_register(service: str) -> str:
    """Where the gateway records what is wanted."""
    return f"exposed.{service}"


def state_register(service: str) -> str:
    """Where the scheduler records what runs."""
    return f"exposed-state.{service}"


def wish_subject(service: str) -> str:
    """Where a changed wish is told."""
    return f"live.exposed.{service}"


def state_subject(service: str) -> str:
    """Where a changed state is told."""
    return f"live.exposed-state.{service}"


class Wish(Contract):
    """What somebody asked for by stop, start and restart."""

    model_config = ConfigDict(title="ExposedWishV1")

    stopped: bool = False
    restarted_at: AwareDatetime | None = None
    """Instances that were started before are replaced; None: nobody asked."""


class DeploymentState(StrEnum):
    """OSCAR's words (contract 1.4)."""

    PENDING = "pending"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPED = "stopped"


class ExposedState(Contract):
    """What runs of one exposed Service."""

    model_config = ConfigDict(title="ExposedStateV1")

    service: ServiceName
    revision: int = 0
    """Of the definition that it follows."""
    wish: int = 0
    """Revision of the register with the wish that it follows; 0: there was none."""
    state: DeploymentState
    reason: str = ""
    """What is wrong, in the words of what runs it; empty: nothing is."""
    last_transition: AwareDatetime
    """When `state` last changed."""
    active: int = 0
    """Instances that answer."""
    affected: int = 0
    """Instances that should answer and do not."""
    urls: tuple[str, ...] = ()
    """`http://host:port` of each place that answers on the first port."""


class LogsAsked(Contract):
    """The newest lines of an exposed Service are wanted."""

    model_config = ConfigDict(title="ExposedLogsAskedV1")

    service: ServiceName
    lines: int = Field(default=200, ge=1, le=1000)
    reply_to: str


class LogLine(Contract):
    """One line that an instance wrote."""

    at: AwareDatetime | None = None
    text: str


class LogsAnswered(Contract):
    """The lines, oldest first."""

    model_config = ConfigDict(title="ExposedLogsAnsweredV1")

    lines: tuple[LogLine, ...] = ()
    error: str = ""
    """Why there are none; empty: nothing went wrong."""
