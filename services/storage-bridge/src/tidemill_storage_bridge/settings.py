"""Everything an operator can change, read once at start from TIDEMILL_BRIDGE_* variables."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.settings import BusSettings, Group, SecretsSettings, TelemetrySettings


class Role(StrEnum):
    """What this process does; several processes may share the work."""

    SOURCES = "sources"
    """Listen to storage: the filer's stream and HTTP notifications."""
    ROUTING = "routing"
    """Turn Events into Invocations, and put retries on the queue; any number of processes compete for them."""
    RECONCILIATION = "reconciliation"
    """Answer `live.reconcile`, and reconcile on schedule."""


class SeaweedSettings(Group):
    """A SeaweedFS filer to follow."""

    filer_grpc: str
    """`host:port` of the filer's gRPC service."""
    provider: str = DEFAULT_PROVIDER
    """The name under which Services know this store."""
    in_flight: int = Field(default=256, ge=1)
    """Changes on their way to the bus; beyond it nothing more is read from the filer."""


class RoutingSettings(Group):
    """How Events are routed."""

    in_flight: int = Field(default=256, ge=1)
    """Events routed at the same time; the bus hands out no more than these."""


class Settings(BaseSettings):
    """The storage-bridge's settings."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_BRIDGE_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    """HTTP for notifications, health and metrics; 0: any free port."""
    tokens_file: Path | None = None
    """JSON: bearer token -> name of its source, or {"source": …, "provider": …}; None: no notification is accepted."""
    secrets: SecretsSettings = SecretsSettings()
    """Credentials of stores, for listings and large payloads."""
    secrets_dir: Path | None = None
    """Where they are, if they are files."""
    bus: BusSettings = BusSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    system_bucket: str = "tidemill"
    """The platform's own bucket: its objects are no Events."""
    seaweedfs: SeaweedSettings | None = None
    """None: there is no filer to follow."""
    routing: RoutingSettings = RoutingSettings()
    reconcile_every: timedelta | None = None
    """How often all input folders are compared with EVENTS; None: on demand, and after a lost connection."""
    roles: frozenset[Role] = frozenset(Role)
    drain_timeout: timedelta = timedelta(seconds=20)
    """How long what is in flight may take after SIGTERM; leaves 10 s of a Pod's 30 s for closing."""

    @model_validator(mode="after")
    def _secrets_are_somewhere(self) -> Self:
        if self.secrets.kind == "files" and self.secrets_dir is None:
            raise ValueError("secrets_dir must be given where secrets are files")
        return self

    @model_validator(mode="after")
    def _schedule_is_sane(self) -> Self:
        if self.reconcile_every is not None and self.reconcile_every < timedelta(seconds=1):
            raise ValueError("reconcile_every must be at least a second, or absent")
        return self
