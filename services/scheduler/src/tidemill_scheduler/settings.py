"""Everything an operator can change."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_common.settings import BusSettings, Group, TelemetrySettings
from tidemill_scheduler.domain.snapshot import Quota
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.docker.settings import DockerSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings


class PoolSettings(Group):
    """Capacity for Workers. It is accounted, not enforced: the sum of what the Services ask for stays below it."""

    cpu_millicores: int | None = Field(default=None, ge=1)
    """None: all cores that this process may use."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """None: four fifths of this machine's memory (or of this process's cgroup); the rest is for the platform."""
    max_starting: int | None = Field(default=None, ge=1)
    """Workers that start at the same time; None: one for each core, since a start is a third of a second of CPU."""


class QuotaSettings(Group):
    """Most that one owner's Workers may take at a time; None: any amount."""

    cpu_millicores: int | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    workers: int | None = Field(default=None, ge=0)

    def quota(self) -> Quota:
        """The domain's value."""
        return Quota(cpu_millicores=self.cpu_millicores, memory_bytes=self.memory_bytes, workers=self.workers)


class WorkerSettings(Group):
    """What Workers are started with. They get the scheduler's bus settings, with another identity if one is named."""

    command: tuple[str, ...] = (sys.executable, "-m", "tidemill_supervisor")
    bus_user: str | None = None
    """Workers' identity on the bus when there is no `identity_key_file`; None: the scheduler's."""
    bus_password_file: Path | None = None
    identity_key_file: Path | None = None
    """What `tidemill keys` wrote as `bus-workers.json`: issues each Service's Workers an identity that expires and may
    do nothing but that Service's work. None: all Workers share one (NATS servers without operator mode)."""
    identity_lifetime: timedelta = Field(default=timedelta(hours=1), ge=timedelta(seconds=1))
    """How long an identity holds; renewed at half of it. A stolen one is of use that long at most; and Workers lose the
    bus when the scheduler has been away for more than half of it."""
    drain_timeout: timedelta = timedelta(days=7)
    """How long a Worker that drains may still run what it has. Long, because room is never freed by killing work; when
    the scheduler stops its Workers it waits for its own `drain_timeout` only."""
    environment: dict[str, str] = Field(default_factory=dict)
    """More variables, `TIDEMILL_SUPERVISOR_*` of the operator's choice. No secrets: they can be seen."""


class LeaderSettings(Group):
    """Of several schedulers one acts."""

    lease: timedelta = timedelta(seconds=3)
    """A leader that has been silent this long is replaced; with it a takeover takes less than 5 s."""
    renew: timedelta = timedelta(seconds=1)

    @model_validator(mode="after")
    def _leaves_time_to_renew(self) -> Self:
        if self.lease < 2 * self.renew + timedelta(seconds=0.5):
            raise ValueError(
                "lease must be at least twice renew and half a second, or the leader loses it all the time"
            )
        return self


class Settings(BaseSettings):
    """Read once at start from TIDEMILL_SCHEDULER_* variables."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_SCHEDULER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    bus: BusSettings = BusSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    launcher: Literal["process", "docker", "kubernetes"] = "process"
    docker: DockerSettings = DockerSettings()
    """Of the docker launcher."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    """Of the kubernetes launcher."""
    exposed: ExposedSettings = ExposedSettings()
    """Of exposed Services."""
    pool: PoolSettings = PoolSettings()
    worker: WorkerSettings = WorkerSettings()
    leader: LeaderSettings = LeaderSettings()

    state_dir: Path = Path("state/scheduler")
    """Records of running Workers; the next scheduler process adopts them."""
    workspace_root: Path = Path("state/workspaces")
    """A directory for each Worker, removed when it ends."""
    secrets_dir: Path = Path("state/secrets")
    """Handed to Workers; the scheduler itself reads nothing there."""
    log_dir: Path = Path("state/logs")
    """Workers' output is `workers/<id>.log` below it."""

    quotas: dict[str, QuotaSettings] = Field(default_factory=dict)
    """By owner."""
    default_quota: QuotaSettings = QuotaSettings()
    """Of owners without one of their own."""
    weights: dict[str, float] = Field(default_factory=dict)
    """By owner; 1 when absent. Twice the weight is twice the share when all want more than there is."""

    idle_timeout: timedelta = timedelta(seconds=60)
    """How long a Worker without work is kept warm when nobody else needs its room."""
    turn: timedelta = timedelta(seconds=30)
    """With more Services than places: how long one keeps its last place before another gets it."""
    start_timeout: timedelta = timedelta(seconds=60)
    """A Worker that has not reported by then is killed, and counts as failed."""
    plan_interval: timedelta = timedelta(seconds=1)
    """Planning happens whenever something changes; and at least this often, should a wake-up be lost."""
    min_gap: timedelta = timedelta(milliseconds=50)
    """Planning happens at most this often, however much changes."""
    stop_workers_on_exit: bool = False
    """False: Workers outlive the scheduler, and the next one adopts them. True: SIGTERM drains them as well."""
    drain_timeout: timedelta = timedelta(seconds=20)
    """With `stop_workers_on_exit`: how long Workers may still run; then they are killed and their Leases run out."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where Prometheus' /metrics is served; None: nowhere."""
    metrics_host: str = "127.0.0.1"

    @model_validator(mode="after")
    def _weights_are_positive(self) -> Self:
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("weights must be above 0")
        return self
