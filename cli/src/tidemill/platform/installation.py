"""One embedded platform: its directory, ports and credentials, and the two servers made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidemill.errors import CliError, Exit
from tidemill.platform.adoption import adopt_streams
from tidemill.platform.connection import Connection
from tidemill.platform.keys import BusKeys, credentials_file, kept_keys, make_keys
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
from tidemill.platform.overrides import bus_overrides, kept_overrides
from tidemill.platform.servers import NatsServer, SeaweedServer
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretRecord
from tidemill_common.settings import BusSettings, Durability


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that is fixed before the first process starts."""

    layout: Layout
    ports: Ports
    credentials: Credentials
    bus: Mapping[str, str] = field(default_factory=dict)
    """Fields of BusSettings that the operator changed."""
    keys: BusKeys | None = None
    """Of the bus; None: an earlier version started it last, and gave passwords."""

    @classmethod
    def open(cls, directory: Path, *, port: int | None) -> Installation:
        """Make the directory, or take up the one that is there; writes what processes and clients read.

        Nothing of it may run: data of an earlier version may have to be moved.

        Raises:
            CliError: `port` is in use, a file of the directory is damaged, or a TIDEMILL_BUS_ variable is wrong.
        """
        layout = Layout(directory.resolve())
        layout.make()
        bus = bus_overrides(layout, os.environ)
        ports, credentials = ports_of(layout, gateway=port), credentials_of(layout)
        installation = cls(layout, ports, credentials, bus).with_keys()
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
        return cls(layout, ports, credentials, kept_overrides(layout), kept_keys(layout.identities))

    def with_keys(self) -> Installation:
        """The same, ready for a bus that stands still to be started: with keys, and with all data in their account.

        Raises:
            CliError: The bus has data of several accounts, or a file is damaged.
        """
        keys = make_keys(self.layout.identities)
        adopt_streams(self.layout.nats, keys.account_id)
        credentials = self.credentials.model_copy(update={"bus": {}})
        if credentials != self.credentials:
            write_private(self.layout.credentials, credentials.model_dump_json(indent=2))
            for name in self.credentials.bus:
                self.layout.password_file(name).unlink(missing_ok=True)
        return replace(self, credentials=credentials, keys=keys)

    @property
    def nats(self) -> NatsServer:
        """The bus.

        Raises:
            CliError: There are no keys yet; see `with_keys`.
        """
        if self.keys is None:
            raise CliError(f"{self.layout.identities} has no keys of the bus")
        return NatsServer(
            directory=self.layout.nats,
            port=self.ports.nats,
            monitor_port=self.ports.nats_monitor,
            authorization=self.keys.server_config(),
            sync_always=self.bus_settings("operator").durability is Durability.POWER,
        )

    @property
    def nats_url(self) -> str:
        """Where clients of the bus connect."""
        return f"nats://{LOOPBACK}:{self.ports.nats}"

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
        if self.keys is None:
            identified = {"user": identity, "password_file": self.layout.password_file(identity)}
        else:
            identified = {"credentials_file": self.layout.identities / credentials_file(identity)}
        return BusSettings.model_validate({**self.bus, "url": self.nats_url, **identified})
