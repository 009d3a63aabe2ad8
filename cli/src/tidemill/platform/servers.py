"""Command lines and configuration of the two servers the embedded platform needs, both from Python packages.

Pure apart from writing configuration files; starting and watching them is `platform.processes`' job (tests start them
themselves). Everything binds to loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOOPBACK: Final = "127.0.0.1"
WEED_GRPC_OFFSET: Final = 10_000
"""SeaweedFS's own rule for gRPC ports that nobody named."""


def executable(name: str) -> str:
    """A command that a Python package installed beside this interpreter, or one on the PATH.

    Raises:
        FileNotFoundError: Neither is there.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install {name}")
    return found


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports of this kind; asking for one after the other may give the same one twice."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((_LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_pair(distance: int) -> int:
    """A free port whose neighbour at `distance` is free as well."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind((_LOOPBACK, port + distance))
            except (OSError, OverflowError):
                continue
        return port


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsServer:
    """A nats-server with JetStream in `directory`."""

    directory: Path
    port: int
    monitor_port: int
    users: tuple[tuple[str, str, str], ...] = ()
    """(name, password, permissions in nats-server's own syntax or empty), for a server without `authorization`."""
    authorization: str = ""
    """More configuration: whom it trusts. Without it and without users: no authentication."""
    sync_always: bool = False
    """Write to disk before acknowledging (`durability: power`)."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{_LOOPBACK}:{self.port}"

    @property
    def ready_url(self) -> str:
        """Answers 200 when JetStream is ready."""
        return f"http://{_LOOPBACK}:{self.monitor_port}/healthz"

    def command(self) -> list[str]:
        """Write the configuration file and return the command line."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        sync = "  sync_interval: always\n" if self.sync_always else ""
        text = (
            f'host: "{_LOOPBACK}"\nport: {self.port}\nhttp: "{_LOOPBACK}:{self.monitor_port}"\n'
            f"server_name: tidemill\nmax_payload: 1MB\n"
            f'jetstream {{\n  store_dir: "{self.directory / "jetstream"}"\n{sync}'
            "  limits { default_max_consumers: 100000 }\n}\n"
        )
        if self.users:
            rows = "\n".join(
                f"    {{ user: {json.dumps(name)}, password: {json.dumps(password)}, {permissions} }}"
                for name, password, permissions in self.users
            )
            text += f"authorization {{\n  users: [\n{rows}\n  ]\n}}\n"
        text += self.authorization
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return [executable("nats-server"), "-c", str(config)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeaweedServer:
    """A SeaweedFS (`weed mini`) with S3 and filer in `directory`."""

    directory: Path
    s3_port: int
    master_port: int
    volume_port: int
    filer_port: int
    grpc_ports: tuple[int, int, int, int]
    """Of master, volume, filer and S3."""
    admin_port: int
    """HTTP of the admin part, which cannot be switched off. Its gRPC is 10000 above: the worker inside looks there."""
    access_key: str
    secret_key: str

    @classmethod
    def on_free_ports(cls, directory: Path, *, access_key: str, secret_key: str, s3_port: int = 0) -> SeaweedServer:
        """One whose ports are all free now."""
        admin = free_pair(WEED_GRPC_OFFSET)
        taken = {s3_port, admin, admin + WEED_GRPC_OFFSET}
        s3, master, volume, filer, *grpc = [port for port in free_ports(8 + len(taken)) if port not in taken][:8]
        return cls(
            directory=directory,
            s3_port=s3_port or s3,
            master_port=master,
            volume_port=volume,
            filer_port=filer,
            grpc_ports=(grpc[0], grpc[1], grpc[2], grpc[3]),
            admin_port=admin,
            access_key=access_key,
            secret_key=secret_key,
        )

    @property
    def endpoint(self) -> str:
        """The S3 endpoint."""
        return f"http://{_LOOPBACK}:{self.s3_port}"

    @property
    def filer_grpc(self) -> str:
        """`host:port` of the filer's gRPC service, the source of metadata events."""
        return f"{_LOOPBACK}:{self.grpc_ports[2]}"

    @property
    def ready_url(self) -> str:
        """Answers 200 when S3 is ready."""
        return f"{self.endpoint}/healthz"

    @property
    def topology_url(self) -> str:
        """Tells in `Topology.Max` how many volumes there can be; 0 or absent: the volume server is not known yet."""
        return f"http://{_LOOPBACK}:{self.master_port}/dir/status"

    def command(self) -> list[str]:
        """Write the identities file and return the command line. Keys stand in the file, not in the environment."""
        self.directory.mkdir(parents=True, exist_ok=True)
        identities = self.directory / "s3.json"
        admin = {
            "name": "tidemill",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        descriptor = os.open(identities, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"identities": [admin]}, file)
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        master, volume, filer, s3 = self.grpc_ports
        return [
            executable("weed"),
            "mini",
            f"-dir={data}",
            f"-ip={_LOOPBACK}",
            f"-ip.bind={_LOOPBACK}",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",  # on by default: it would tell its makers about every installation
            f"-admin.port={self.admin_port}",
            f"-admin.port.grpc={self.admin_port + WEED_GRPC_OFFSET}",
            f"-s3.config={identities}",
            f"-s3.port={self.s3_port}",
            f"-s3.port.grpc={s3}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-master.port={self.master_port}",
            f"-master.port.grpc={master}",
            "-volume.preStopSeconds=0",  # nobody else waits for word that this only volume server leaves
            f"-volume.port={self.volume_port}",
            f"-volume.port.grpc={volume}",
            f"-filer.port={self.filer_port}",
            f"-filer.port.grpc={filer}",
        ]
