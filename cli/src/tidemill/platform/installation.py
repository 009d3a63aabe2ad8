"""One embedded platform: its directory, ports and credentials, and the two servers made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidemill.errors import CliError, Exit
from tidemill.platform.connection import Connection
from tidemill.platform.identities import bus_users
from tidemill.platform.layout import (
    LOOPBACK,
    Credentials,
    Layout,
    Ports,
    credentials_of,
    ports_of,
    read_model,
    write_private,
)
from tidemill.platform.servers import NatsServer, SeaweedServer
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretRecord
from tidemill_common.settings import BusSettings


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that is fixed before the first process starts."""

    layout: Layout
    ports: Ports
    credentials: Credentials

    @classmethod
    def open(cls, directory: Path, *, port: int | None) -> Installation:
        """Make the directory, or take up the one that is there; writes what processes and clients read.

        Raises:
            CliError: `port` is in use, or a file of the directory is damaged.
        """
        layout = Layout(directory.resolve())
        layout.make()
        installation = cls(layout, ports_of(layout, gateway=port), credentials_of(layout))
        write_private(layout.connection, installation.connection.model_dump_json(indent=2))
        write_private(layout.secrets / f"{PLATFORM}.json", installation.platform_record.model_dump_json())
        return installation

    @classmethod
    def existing(cls, directory: Path) -> Installation:
        """The one that is in a directory, as it was started last; nothing is written.

        Raises:
            CliError: There is none.
        """
        layout = Layout(directory.resolve())
        ports, credentials = read_model(layout.ports, Ports), read_model(layout.credentials, Credentials)
        if ports is None or credentials is None:
            raise CliError(f"{directory} is not the directory of a `tidemill up`", Exit.NOT_FOUND)
        return cls(layout, ports, credentials)

    @property
    def nats(self) -> NatsServer:
        """The bus."""
        return NatsServer(
            directory=self.layout.root / "nats",
            port=self.ports.nats,
            monitor_port=self.ports.nats_monitor,
            users=bus_users(self.credentials.bus),
        )

    @property
    def weed(self) -> SeaweedServer:
        """The object store."""
        master, volume, filer, *grpc = self.ports.weed
        return SeaweedServer(
            directory=self.layout.root / "weed",
            s3_port=self.ports.s3,
            master_port=master,
            volume_port=volume,
            filer_port=filer,
            grpc_ports=(grpc[0], grpc[1], grpc[2], grpc[3]),
            admin_port=self.ports.weed_admin,
            access_key=self.credentials.s3_access_key,
            secret_key=self.credentials.s3_secret_key,
        )

    @property
    def endpoint(self) -> str:
        """The API."""
        return f"http://{LOOPBACK}:{self.ports.gateway}"

    @property
    def events_endpoint(self) -> str:
        """The storage-bridge's HTTP."""
        return f"http://{LOOPBACK}:{self.ports.bridge}"

    @property
    def connection(self) -> Connection:
        """For clients."""
        return Connection(
            endpoint=self.endpoint,
            username=self.credentials.username,
            password=self.credentials.password,
            s3_endpoint=self.weed.endpoint,
            s3_access_key=self.credentials.s3_access_key,
            s3_secret_key=self.credentials.s3_secret_key,
            events_endpoint=self.events_endpoint,
            events_token=self.credentials.events_token,
        )

    @property
    def platform_record(self) -> SecretRecord:
        """The platform's own store, for the components."""
        store = S3Credentials(
            endpoint=self.weed.endpoint,
            access_key=self.credentials.s3_access_key,
            secret_key=self.credentials.s3_secret_key,
            verify=False,
        )
        return SecretRecord(providers={"minio.default": store.model_dump()})

    def bus_settings(self, identity: str) -> BusSettings:
        """How one identity reaches the bus."""
        return BusSettings(url=self.nats.url, user=identity, password_file=self.layout.identity(identity))
