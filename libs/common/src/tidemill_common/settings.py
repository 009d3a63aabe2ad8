"""Settings that all components have; each component's own class nests these."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Durability(StrEnum):
    """What an acknowledged message survives."""

    PROCESS = "process"
    """kill -9 of any process, the bus included. A power cut may lose the last seconds (up to two minutes on NATS)."""
    POWER = "power"
    """A power cut: the server writes to disk before it acknowledges (or keeps three replicas)."""


class Group(BaseModel):
    """Base of a group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BusSettings(Group):
    """How to reach the bus."""

    url: str = "nats://127.0.0.1:4222"
    """`nats://host:port[,nats://…]`, or `memory://` in tests."""
    user: str | None = None
    """This component's identity on the bus; None: the server asks for none."""
    password: SecretStr | None = None
    password_file: Path | None = None
    """The password as a mounted file; wins over `password`."""
    credentials_file: Path | None = None
    """NATS credentials (`.creds`: a JWT and its key), for a server in operator mode; wins over `user`. The file is read
    again at each connect, so an identity that expires is renewed by writing it anew."""
    durability: Durability = Durability.PROCESS
    replicas: int = Field(default=1, ge=1, le=5)
    shards: int = Field(default=4, ge=1, le=64)
    """Work-queue Streams; Services are spread over them by hash. Changing it is a migration."""
    lease: timedelta = timedelta(seconds=30)
    """How long a Worker may be silent before its Invocation goes to another; extended every third of it."""
    duplicate_window: timedelta = timedelta(minutes=10)
    """How long the bus remembers message ids; beyond it, equal Invocation ids keep repeats harmless."""
    request_timeout: timedelta = timedelta(seconds=5)
    events_max_age: timedelta = timedelta(days=7)
    events_max_bytes: int = 2 * 1024**3
    work_max_messages: int = 5_000_000
    """Over all shards; beyond it `submit` is refused (back-pressure), nothing is dropped."""
    work_max_bytes: int = 4 * 1024**3
    lifecycle_max_age: timedelta = timedelta(days=7)
    lifecycle_max_bytes: int = 2 * 1024**3
    logs_max_age: timedelta = timedelta(days=3)
    logs_max_bytes: int = 1024**3
    dead_max_age: timedelta = timedelta(days=30)
    dead_max_bytes: int = 512 * 1024**2
    """Retention: under these a busy machine's disk does not grow for ever. EVENTS refuses when full (`discard new`);
    LIFECYCLE, LOGS and DEAD drop their oldest, and the accounts say how many."""


_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its own: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""


class SecretsSettings(Group):
    """Where SecretRecords are kept. With `files`, the component's `secrets_dir`; the rest is for `kubernetes`."""

    kind: Literal["files", "kubernetes"] = "files"
    namespace: str | None = None
    """Where the Secrets are: the Workers' namespace; None: this pod's own."""
    server: str = "https://kubernetes.default.svc"
    """The API server, as every pod can reach it."""
    token_file: Path = _ACCOUNT / "token"
    ca_file: Path = _ACCOUNT / "ca.crt"
    namespace_file: Path = _ACCOUNT / "namespace"


class TelemetrySettings(Group):
    """Logs and metrics."""

    log_level: str = "INFO"
    log_format: str = "console"
    """`console` for people, `json` for machines."""
