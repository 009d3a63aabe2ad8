"""Everything an operator can change, read once at start from TIDEMILL_GATEWAY_* variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_common.settings import BusSettings, Group, SecretsSettings, TelemetrySettings


class Calls(Group):
    """`/job` and `/run`."""

    body_limit_bytes: int = Field(default=32 * 1024**2, ge=1)
    """Larger bodies are answered 413."""
    inline_limit_bytes: int = Field(default=32 * 1024, ge=0, le=32 * 1024)
    """Larger bodies go to the store and travel by reference."""
    timeout: timedelta = timedelta(seconds=300)
    """How long `/run` waits when the caller does not say; OSCAR's own limit."""
    longest_timeout: timedelta = timedelta(hours=1)
    """A caller cannot ask for more."""
    waiting: int = Field(default=10_000, ge=1)
    """Synchronous calls that may wait at a time; more are answered 429."""
    waiting_per_service: int = Field(default=1000, ge=1)
    """The same for one Service, so that one without Workers does not take all places."""


class Retention(Group):
    """When ended Invocations are forgotten."""

    invocations: timedelta = timedelta(days=30)
    """After their end; longer than LIFECYCLE is kept, so that a late repeat finds its Invocation."""
    hidden: timedelta = timedelta(days=7)
    """Ended Invocations whose logs were deleted through OSCAR's API; not shorter than LIFECYCLE is kept."""
    objects: timedelta = timedelta(days=31)
    """Payloads and results in the system bucket; longer than EVENTS and DEAD are kept, so that a redrive finds them."""
    interval: timedelta = timedelta(minutes=10)
    """Between two rounds of the janitor."""


class Settings(BaseSettings):
    """All settings of one gateway."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_GATEWAY_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0: a free one, told in the log line `ready`."""
    public_url: str | None = None
    """How clients reach this gateway; None: `http://{host}:{port}`."""
    database_url: str = "sqlite+aiosqlite:///tidemill.db"
    """Or `postgresql+asyncpg://…`, which several replicas may share."""
    username: str = "oscar"
    """The admin's name."""
    password: SecretStr = SecretStr("")
    """The admin's password; empty without `password_file`: the gateway does not start."""
    password_file: Path | None = None
    """The password as a mounted file; wins over `password`."""
    secrets: SecretsSettings = SecretsSettings()
    secrets_dir: Path = Path("secrets")
    """Where SecretRecords are kept, if they are files."""
    system_bucket: str = "tidemill"
    """Bucket of payloads and results on the platform's store; its objects trigger nothing."""
    ui_dir: Path | None = None
    """Static files of a dashboard, served below `/ui/`; None: there is none."""
    store_endpoint: str | None = None
    """The platform's store as clients reach it (`/system/config`); None: as the gateway reaches it."""
    drain_timeout: timedelta = timedelta(seconds=20)
    """How long requests in flight may still run after SIGTERM; leaves 10 s of a Pod's 30 s for closing."""
    reconcile_timeout: timedelta = timedelta(seconds=60)
    """How long a request to reconcile waits for a bridge."""
    access_log_entries: int = Field(default=5000, ge=0)
    """Calls of `/job` and `/run` that `GET /system/logs` remembers."""

    bus: BusSettings = BusSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    calls: Calls = Calls()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.password_file is None and not self.password.get_secret_value():
            raise ValueError("password or password_file must be given")
        if self.calls.timeout > self.calls.longest_timeout:
            raise ValueError("calls.timeout is longer than calls.longest_timeout")
        if self.retention.hidden > self.retention.invocations:
            raise ValueError("retention.hidden is longer than retention.invocations")
        if self.retention.hidden < self.bus.lifecycle_max_age:
            raise ValueError("retention.hidden is shorter than bus.lifecycle_max_age")
        if self.retention.objects < max(self.bus.events_max_age, self.bus.dead_max_age):
            raise ValueError("retention.objects is shorter than bus.events_max_age or bus.dead_max_age")
        return self

    def admin_password(self) -> str:
        """The admin's password, from the file if there is one."""
        if self.password_file is not None:
            return self.password_file.read_text().strip()
        return self.password.get_secret_value()
