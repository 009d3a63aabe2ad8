"""An installation whose bus knew passwords keeps everything when it gets keys: Streams, Consumers, and what waits."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.servers import Running
from tidemill.errors import CliError
from tidemill.platform.installation import Installation
from tidemill.platform.keys import KEYS_FILE
from tidemill.platform.servers import NatsServer, free_port
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration

BLUR = ServiceName("blur")
NOW = datetime.now(UTC)
PASSWORDS = {"operator": "one", "gateway": "two", "worker": "three"}


@contextlib.contextmanager
def running(server: NatsServer, log: Path) -> Iterator[NatsServer]:
    process = Running(server, log)
    process.start()
    try:
        yield server
    finally:
        process.stop()


def old_server(installation: Installation) -> NatsServer:
    """As versions before keys ran it."""
    users = tuple((name, password, "") for name, password in PASSWORDS.items())
    return NatsServer(directory=installation.layout.nats, port=free_port(), monitor_port=free_port(), users=users)


def event(identity: str) -> EventReceived:
    return EventReceived(id=EventId(identity), source="/test", type="test", time=NOW, service=BLUR)


def invocation(identity: str) -> Invocation:
    return Invocation(id=InvocationId(identity), service=BLUR, event=event(identity), requested_at=NOW)


async def fill(bus: Bus) -> None:
    """Records, a cursor, one acknowledged and two waiting Invocations, one of them for later."""
    await ensure_streams(bus)
    for number in range(50):
        await bus.log.append(RECEIVED, event(f"e{number}"), key=BLUR)
    async with bus.log.consume(RECEIVED, consumer="bridge-routing") as deliveries:
        for _ in range(20):
            await (await anext(deliveries)).ack()
    await bus.registers.put("cursor.test", b"42")
    for identity in ("done", "waits"):
        await bus.queue.submit(invocation(identity))
    await bus.queue.submit(invocation("later"), not_before=datetime.now(UTC) + timedelta(hours=1))
    async with bus.queue.leases(BLUR, slots=1) as leases:
        async for lease in leases:
            assert lease.invocation.id == "done"
            leases.stop()
            await lease.done()


async def check(bus: Bus) -> None:
    """All of it, exactly."""
    assert not await bus.streams.plan()
    async with bus.log.read(RECEIVED) as records:
        assert [record.body.id async for record in records] == [f"e{number}" for number in range(50)]
    async with bus.log.consume(RECEIVED, consumer="bridge-routing", in_flight=30) as deliveries:
        rest = [await anext(deliveries) for _ in range(30)]
        assert sorted(each.record.position for each in rest) == list(range(21, 51))
    register = await bus.registers.get("cursor.test")
    assert register is not None
    assert register.value == b"42"
    backlog = (await bus.queue.backlog())[BLUR]
    assert (backlog.batch, backlog.delayed) == (1, 1)
    assert not await bus.queue.submit(invocation("waits")), "message ids were forgotten"


@pytest.fixture
async def old(tmp_path: Path) -> Installation:
    """The directory of an earlier version, with data."""
    installation = Installation.open(tmp_path / "platform", port=0)
    for path in installation.layout.identities.glob("bus-*"):
        path.unlink()
    kept = json.loads(installation.layout.credentials.read_text())
    installation.layout.credentials.write_text(json.dumps({**kept, "bus": PASSWORDS}))
    for name, password in PASSWORDS.items():
        installation.layout.password_file(name).write_text(password)
    with running(old_server(installation), tmp_path / "old.log") as server:
        password_file = installation.layout.password_file("operator")
        async with open_bus(BusSettings(url=server.url, user="operator", password_file=password_file), name="x") as bus:
            await fill(bus)
    return installation


async def test_the_next_start_loses_nothing(old: Installation, tmp_path: Path) -> None:
    for _ in range(2):
        installation = Installation.open(old.layout.root, port=0)
        with running(installation.nats, tmp_path / "new.log"):
            async with open_bus(installation.bus_settings("operator"), name="x") as bus:
                await check(bus)


async def test_the_passwords_are_gone_afterwards(old: Installation) -> None:
    Installation.open(old.layout.root, port=0)
    texts = [path.read_text() for path in old.layout.root.rglob("*.json")]
    assert not [password for password in PASSWORDS.values() if any(f'"{password}"' in text for text in texts)]
    assert not [name for name in PASSWORDS if old.layout.password_file(name).exists()]


async def test_before_the_next_start_the_passwords_still_tell_who_asks(old: Installation) -> None:
    """An older version may run there now."""
    settings = Installation.existing(old.layout.root).bus_settings("operator")
    assert (settings.user, settings.credentials_file) == ("operator", None)


async def test_a_start_that_was_interrupted_goes_on(old: Installation, tmp_path: Path) -> None:
    """After the keys were made and before the data was moved; the server may have made an empty directory."""
    Installation.open(old.layout.root, port=0)
    store = old.layout.nats / "jetstream" / "jetstream"
    (account,) = store.iterdir()
    account.rename(store / "$G")
    (account / "streams").mkdir(parents=True)
    installation = Installation.open(old.layout.root, port=0)
    with running(installation.nats, tmp_path / "new.log"):
        async with open_bus(installation.bus_settings("operator"), name="x") as bus:
            await check(bus)


async def test_lost_keys_cost_no_data(old: Installation, tmp_path: Path) -> None:
    Installation.open(old.layout.root, port=0)
    (old.layout.identities / KEYS_FILE).unlink()
    installation = Installation.open(old.layout.root, port=0)
    with running(installation.nats, tmp_path / "new.log"):
        async with open_bus(installation.bus_settings("operator"), name="x") as bus:
            await check(bus)


async def test_data_of_two_accounts_is_for_a_person_to_sort(old: Installation) -> None:
    Installation.open(old.layout.root, port=0)
    other = old.layout.nats / "jetstream" / "jetstream" / "$G" / "streams" / "EVENTS"
    other.mkdir(parents=True)
    before = sorted(old.layout.nats.rglob("*"))
    with pytest.raises(CliError, match="several accounts"):
        Installation.open(old.layout.root, port=0)
    assert sorted(old.layout.nats.rglob("*")) == before
