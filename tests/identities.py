"""A bus in operator mode for tests, and connections with any identity of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from tests.servers import Running
from tidemill.platform.keys import WORKERS_FILE, credentials_file, make_keys
from tidemill.platform.servers import NatsServer, free_port
from tidemill_common.bus import Bus
from tidemill_common.bus.nats.credentials import CredentialsFile
from tidemill_common.bus.nats.issuing import WorkerIssuer
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.settings import BusSettings

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class GuardedBus:
    """A running nats-server that knows identities by their keys alone."""

    server: NatsServer
    keys: Path
    """Where `tidemill keys` wrote."""

    def settings(self, credentials: Path) -> BusSettings:
        return BusSettings(url=self.server.url, credentials_file=credentials, request_timeout=timedelta(seconds=10))

    def component(self, name: str) -> AbstractAsyncContextManager[Bus]:
        return open_bus(self.settings(self.keys / credentials_file(name)), name=name)

    def issue(self, service: str, *, lifetime: timedelta = HOUR) -> Path:
        """Write a Service's identity, anew each time; the file is always the same."""
        issuer = WorkerIssuer.read(self.keys / WORKERS_FILE, shards=BusSettings().shards)
        path = self.keys / f"{service}.creds"
        path.write_text(issuer.issue(ServiceName(service), now=datetime.now(UTC), lifetime=lifetime).text())
        return path

    def worker(self, service: str) -> AbstractAsyncContextManager[Bus]:
        return open_bus(self.settings(self.issue(service)), name=f"worker-{service}")


@contextlib.contextmanager
def guarded_bus(directory: Path) -> Iterator[GuardedBus]:
    """A fresh one."""
    (directory / "keys").mkdir()
    config = make_keys(directory / "keys").server_config()
    server = NatsServer(directory=directory / "nats", port=free_port(), monitor_port=free_port(), authorization=config)
    running = Running(server, directory / "nats.log")
    running.start()
    try:
        yield GuardedBus(server, directory / "keys")
    finally:
        running.stop()


@dataclass
class Intruder:
    """A plain connection that says anything, and hears what it is refused."""

    client: Client
    refused: list[str] = field(default_factory=list)

    async def may_publish(self, subject: str, body: bytes = b"", *, headers: dict[str, str] | None = None) -> bool:
        self.refused.clear()
        await self.client.publish(subject, body, headers=headers)
        return await self._was_not_refused()

    async def may_subscribe(self, subject: str) -> bool:
        self.refused.clear()
        await self.client.subscribe(subject)
        return await self._was_not_refused()

    async def _was_not_refused(self) -> bool:
        await self.client.flush()  # its PING may overtake what is to be published, the next one cannot
        await self.client.flush()
        return not self.refused


@contextlib.asynccontextmanager
async def intruding(url: str, credentials: Path) -> AsyncIterator[Intruder]:
    """Connect with somebody's credentials, and none of our adapter's manners."""
    file, client = CredentialsFile(credentials), Client()
    intruder = Intruder(client)

    async def heard(error: Exception) -> None:
        intruder.refused.append(str(error))

    await client.connect(
        url,
        error_cb=heard,
        user_jwt_cb=file.token,
        signature_cb=file.signature,
        inbox_prefix=file.read().inbox_prefix,
    )
    try:
        yield intruder
    finally:
        await client.close()


def seeds(platform: Path) -> list[str]:
    """Every secret key in a platform's directory."""
    files = [*(platform / "identities").glob("bus-*"), *(platform / "state" / "scheduler").rglob("*.creds")]
    found = {seed for path in files for seed in re.findall(r"\bS[A-Z2-7]{57}\b", path.read_text())}
    assert found
    return sorted(found)
