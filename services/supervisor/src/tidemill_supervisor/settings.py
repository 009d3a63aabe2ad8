"""Everything an operator can change, read once at start from TIDEMILL_SUPERVISOR_* variables."""

from __future__ import annotations

import socket
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_common.settings import BusSettings, Group, TelemetrySettings


class Runner(StrEnum):
    """Where user code runs."""

    PROCESS = "process"
    """As processes of this machine."""
    CONTAINER = "container"
    """In the user's container, whose runner shares the worker directory."""


class LogSettings(Group):
    """How much of what a script writes is kept."""

    kept_bytes: int = Field(default=4 * 1024**2, ge=0)
    """Of one Attempt, on LOGS; beyond it lines are counted, and the last ones kept."""
    line_bytes: int = Field(default=8 * 1024, ge=80, le=32 * 1024)
    """Longer lines are cut."""
    result_bytes: int = Field(default=1024**2, ge=0)
    """Of the text that answers a direct call."""
    flush_interval: timedelta = timedelta(milliseconds=200)


class Settings(BaseSettings):
    """Settings of one Worker. None of them is a key: user code could read our environment."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_SUPERVISOR_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    service: str = Field(min_length=1)
    """The Service whose Invocations it runs."""
    worker_id: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """Unique among all Workers; names its directory, and stands in records."""
    workspace_dir: Path
    """Workspaces are made in `<workspace_dir>/<worker_id>/`, and removed."""
    secrets_dir: Path
    """Records of the SecretStore: this Service's, and `platform`."""
    bus: BusSettings = BusSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    logs: LogSettings = LogSettings()
    runner: Runner = Runner.PROCESS
    runner_timeout: timedelta | None = None
    """How long to wait for the user's container; None: for ever, as its image may still be pulled, and whoever started
    it sees what goes wrong with that. Nothing is leased before."""
    slots: int | None = Field(default=None, ge=1, le=256)
    """Invocations at a time; None: as the Service says."""
    drain_timeout: timedelta = timedelta(seconds=20)
    """How long what runs may still run after SIGTERM; leaves 10 s of a Pod's 30 s for stopping scripts."""
    grace: timedelta = timedelta(seconds=5)
    """Between a script's SIGTERM and its SIGKILL."""
    max_lost: int = Field(default=10, ge=1)
    """An Invocation that as many Workers died on is a dead letter."""
    disk_limit_bytes: int | None = Field(default=None, ge=1)
    """For one workspace, where the Service has no `ephemeral_storage_request`; None: no limit."""
    enforce_memory: bool = False
    """Limit each process of a script to the Service's `memory` (address space). False: memory is what the launcher
    plans and limits with; programs that map much more than they use would fail."""
    parallel_uploads: int = Field(default=8, ge=1)
    result_file_bytes: int = Field(default=64 * 1024**2, ge=0)
    """Output files beyond this together do not answer a direct call; they are in the outputs alone."""
    system_bucket: str = "tidemill"
    node_name: str = Field(default_factory=socket.gethostname)
    """RESOURCE_ID for scripts."""
    definition_timeout: timedelta = timedelta(seconds=10)
    """How long to wait at start for the Service's definition."""

    @model_validator(mode="after")
    def _has_no_key_in_the_environment(self) -> Self:
        if self.bus.password is not None:
            raise ValueError("bus.password: user code could read it in our environment; use bus.password_file")
        if any(urlsplit(url).password for url in self.bus.url.split(",")):
            raise ValueError("bus.url: user code could read its password in our environment; use bus.password_file")
        return self

    @model_validator(mode="after")
    def _leaves_time_to_stop(self) -> Self:
        if self.grace >= self.bus.lease:
            raise ValueError(f"grace {self.grace} must be shorter than a lease ({self.bus.lease})")
        return self
