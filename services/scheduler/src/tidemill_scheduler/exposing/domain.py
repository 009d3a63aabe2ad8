"""What an exposed Service should be, and what its state is called. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill_common.contracts.contract import ServiceName, derive_id
from tidemill_common.contracts.exposed import DeploymentState, ExposedState, Wish
from tidemill_common.contracts.service import Expose, Service

_MIN_SCALE: Final = 1
_MAX_SCALE: Final = 10
_CPU_THRESHOLD: Final = 80
"""OSCAR's documented defaults (contract 8), for 0 and for what is left out."""
LEGACY: Final = "legacy"
NO_WISH: Final = Wish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One exposed Service as it should run now."""

    service: Service
    expose: Expose
    revision: int
    wish: Wish = NO_WISH
    wish_revision: int = 0

    @property
    def name(self) -> ServiceName:
        """The Service's."""
        return self.service.name

    @property
    def port(self) -> int:
        """The one that is routed by path."""
        return self.expose.api_port[0]

    @property
    def min_scale(self) -> int:
        """Instances at least."""
        return self.expose.min_scale or _MIN_SCALE

    @property
    def max_scale(self) -> int:
        """Instances at most; never less than `min_scale`."""
        return max(self.min_scale, self.expose.max_scale or _MAX_SCALE)

    @property
    def cpu_threshold(self) -> int:
        """Percent of the requested CPU beyond which an instance is added."""
        return self.expose.cpu_threshold or _CPU_THRESHOLD

    @property
    def base_path(self) -> str:
        """Below which it is public."""
        return f"/system/services/{self.name}/exposed"

    @property
    def health_path(self) -> str:
        """What probes ask for; below the public path if the server sees that path, unless `probe_mode` is `direct`."""
        path = "/" + self.expose.health_path.lstrip("/")
        is_legacy = (self.expose.probe_mode or LEGACY) == LEGACY
        return f"{self.base_path}{path}" if self.expose.rewrite_target and is_legacy else path

    @property
    def version(self) -> str:
        """Instances of another version are replaced."""
        restarted = self.wish.restarted_at.isoformat() if self.wish.restarted_at else ""
        return derive_id("exposed", self.name, str(self.revision), restarted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What runs of one Service now."""

    urls: tuple[str, ...] = ()
    """Where it answers; one address may stand for all instances."""
    active: int = 0
    """Instances that answer."""
    present: int = 0
    """Instances that exist, whether they answer or not."""
    most: int | None = None
    """This platform cannot run more instances of it; None: as many as it should have."""
    reason: str = ""
    """What is wrong, or different from what was asked for."""
    is_broken: bool = False
    """It will not come right by waiting for the first start alone."""


NOTHING: Final = Observation()


def state_of(exposure: Exposure, seen: Observation, before: ExposedState | None, *, now: datetime) -> ExposedState:
    """The state to tell; its time of transition is the old one's while the word stays."""
    wanted = 0 if exposure.wish.stopped else min(exposure.min_scale, seen.most or exposure.min_scale)
    word = _word(exposure.wish, seen, wanted)
    since = before.last_transition if before is not None and before.state is word else now
    return ExposedState(
        service=exposure.name,
        revision=exposure.revision,
        wish=exposure.wish_revision,
        state=word,
        reason=seen.reason,
        last_transition=since,
        active=seen.active,
        affected=0 if exposure.wish.stopped else max(0, max(wanted, seen.present) - seen.active),
        urls=() if exposure.wish.stopped else seen.urls,
    )


def _word(wish: Wish, seen: Observation, wanted: int) -> DeploymentState:
    if wish.stopped:
        return DeploymentState.PENDING if seen.present else DeploymentState.STOPPED
    if seen.active >= wanted:
        return DeploymentState.READY
    if seen.active:
        return DeploymentState.DEGRADED
    return DeploymentState.FAILED if seen.is_broken else DeploymentState.PENDING
