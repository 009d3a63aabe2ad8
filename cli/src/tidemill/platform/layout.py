"""Where the embedded platform keeps its state: one directory that only this user can enter.

Everything that must survive a restart is here: ports, generated credentials, the servers' data, the catalogue. A file
with a secret has mode 0600 and is written whole or not at all.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidemill.errors import CliError
from tidemill.platform.servers import WEED_GRPC_OFFSET

LOOPBACK: Final = "127.0.0.1"

_FIRST_PORT, _LAST_PORT = 20000, 31999
"""Below those that Linux and macOS give to outgoing connections, so a port is still free after a restart."""


class Ports(BaseModel):
    """Ports of the platform, all on loopback."""

    model_config = ConfigDict(frozen=True)

    gateway: int
    bridge: int
    scheduler: int
    nats: int
    nats_monitor: int
    s3: int
    weed: tuple[int, ...] = Field(min_length=7, max_length=7)
    """Master, volume and filer; gRPC of master, volume, filer and S3."""
    weed_admin: int


class Credentials(BaseModel):
    """What was generated when the directory was made."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    username: str = "oscar"
    password: str = Field(repr=False)
    s3_access_key: str
    s3_secret_key: str = Field(repr=False)
    events_token: str = Field(repr=False)
    bus: dict[str, str] = Field(default_factory=dict, repr=False)
    """Identity -> password, of a directory that was made before identities had keys; used until its next start."""

    @classmethod
    def generate(cls) -> Credentials:
        """New ones."""
        return cls(
            password=secrets.token_urlsafe(18),
            s3_access_key=secrets.token_hex(10).upper(),
            s3_secret_key=secrets.token_urlsafe(30),
            events_token=secrets.token_urlsafe(24),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the platform's directory."""

    root: Path

    @property
    def run(self) -> Path:
        """Process records: who runs now."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """The SecretStore: records of the platform and of Services."""
        return self.root / "secrets"

    @property
    def identities(self) -> Path:
        """Keys and credentials of the components."""
        return self.root / "identities"

    @property
    def state(self) -> Path:
        """What components keep: the gateway's database, the scheduler's records, workspaces."""
        return self.root / "state"

    @property
    def nats(self) -> Path:
        """The bus's configuration and data."""
        return self.root / "nats"

    @property
    def connection(self) -> Path:
        """How a client reaches this platform."""
        return self.root / "connection.json"

    @property
    def credentials(self) -> Path:
        """Generated credentials."""
        return self.root / "credentials.json"

    @property
    def bus(self) -> Path:
        """What the operator changed of the bus."""
        return self.root / "bus.json"

    @property
    def ports(self) -> Path:
        """The ports of last time."""
        return self.root / "ports.json"

    def password_file(self, name: str) -> Path:
        """The file with one component's bus password, where the bus knows passwords."""
        return self.identities / f"bus-{name}"

    def make(self) -> None:
        """Create the directories, for this user alone."""
        for directory in (self.root, self.run, self.logs, self.secrets, self.identities, self.state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


M = TypeVar("M", bound=BaseModel)


def read_model(path: Path, model: type[M]) -> M | None:
    """A file's content; None: there is no such file.

    Raises:
        CliError: It is there and cannot be understood.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CliError(f"{path} is damaged ({error.error_count()} errors); restore it or remove it") from error


def credentials_of(layout: Layout) -> Credentials:
    """The directory's credentials, generated the first time. Writes the administrator's password file as well."""
    known = read_model(layout.credentials, Credentials)
    if known is None:
        known = Credentials.generate()
        write_private(layout.credentials, known.model_dump_json(indent=2))
    write_private(layout.identities / "admin-password", known.password)
    return known


def is_free(port: int) -> bool:
    """Whether nobody listens on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class PortPicker:
    """Picks free ports, each once."""

    def __init__(self, free: Callable[[int], bool] = is_free) -> None:
        self._free = free
        self._taken: set[int] = set()

    def pick(self, *wanted: int | None) -> int:
        """The first of `wanted` that is free, else any free one."""
        candidates = (port for port in wanted if port)
        for port in candidates:
            if port not in self._taken and self._free(port):
                self._taken.add(port)
                return port
        while True:
            port = random.randint(_FIRST_PORT, _LAST_PORT)
            if port not in self._taken and self._free(port):
                self._taken.add(port)
                return port

    def pick_pair(self, wanted: int | None, distance: int) -> int:
        """A free port whose neighbour at `distance` is free as well."""
        port = self.pick(wanted)
        while not self._free(port + distance):
            port = self.pick()
        self._taken.add(port + distance)
        return port


def ports_of(layout: Layout, *, gateway: int | None, picker: PortPicker | None = None) -> Ports:
    """The ports of last time where they are free, else others; remembered.

    Args:
        gateway: The API's port; 0: any; None: that of last time, else 8080, else any.

    Raises:
        CliError: The API's port was asked for and is in use.
    """
    picker = picker or PortPicker()
    old = read_model(layout.ports, Ports)
    if gateway:
        api = picker.pick(gateway)
        if api != gateway:
            raise CliError(f"port {gateway} is in use; choose another with --port, or --port 0 for any")
    else:
        api = picker.pick(old.gateway if old else None, *([8080] if gateway is None else []))
    ports = Ports(
        gateway=api,
        bridge=picker.pick(old.bridge if old else None),
        scheduler=picker.pick(old.scheduler if old else None),
        nats=picker.pick(old.nats if old else None),
        nats_monitor=picker.pick(old.nats_monitor if old else None),
        s3=picker.pick(old.s3 if old else None),
        weed=tuple(picker.pick(old.weed[index] if old else None) for index in range(7)),
        weed_admin=picker.pick_pair(old.weed_admin if old else None, WEED_GRPC_OFFSET),
    )
    write_private(layout.ports, ports.model_dump_json(indent=2))
    return ports
