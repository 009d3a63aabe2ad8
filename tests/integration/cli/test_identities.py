"""What each identity may do on a real bus: a Worker its work and nothing else; only the operator manages Streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.identities import GuardedBus, guarded_bus
from tests.retries import storing_retries
from tidemill.platform.keys import credentials_file, make_keys
from tidemill_common.bus import Bus, Lease
from tidemill_common.bus.nats.identities import COMPONENTS
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import (
    CHANGED,
    LOG_WRITTEN,
    SET_ASIDE,
    Change,
    DeadLetter,
    Invocation,
    InvocationChanged,
    LogWritten,
    Reason,
    changed_subject,
)
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined
from tidemill_common.errors import AccessDeniedError, TransientError
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration

BLUR = ServiceName("blur")
NOW = datetime.now(UTC)
REFUSED = (AccessDeniedError, TransientError)
"""A refused subject is told by the server beside the request, which may just not be answered."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBus]:
    """A bus that knows the platform's identities."""
    with guarded_bus(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def operator(server: GuardedBus) -> AsyncIterator[Bus]:
    """The operator's bus, with its Streams."""
    async with server.component("operator") as bus:
        await ensure_streams(bus)
        yield bus


def event(identity: str) -> EventReceived:
    return EventReceived(id=EventId(identity), source="/test", type="test", time=NOW, service=BLUR)


def invocation(identity: str) -> Invocation:
    return Invocation(id=InvocationId(identity), service=BLUR, event=event(identity), requested_at=NOW)


async def leased(bus: Bus, answer: str) -> Lease:
    """Lease one Invocation and answer it as told."""
    async with bus.queue.leases(BLUR, slots=1) as leases:
        async for lease in leases:
            leases.stop()
            await lease.extend()
            if answer == "retry":
                await lease.retry(timedelta(seconds=0.1), "test")
            elif answer == "dead":
                await lease.dead(
                    DeadLetter(
                        invocation=lease.invocation, reason=Reason.SCRIPT_FAILED, message="test", attempts=2, at=NOW
                    )
                )
            elif answer == "release":
                await lease.release()
            else:
                await lease.done()
            return lease
    raise AssertionError("no lease")


async def test_a_worker_can_do_all_of_its_work(server: GuardedBus, operator: Bus) -> None:
    definition = ServiceDefined(name=BLUR, revision=1, at=NOW, service=Service(name=BLUR, image="x", script="true"))
    await operator.log.append(DEFINED, definition, key=BLUR)
    for identity in ("first", "second"):
        await operator.queue.submit(invocation(identity))
    async with server.worker(BLUR) as worker, server.component("bridge") as bridge, storing_retries(bridge):
        async with worker.log.read(DEFINED, key=BLUR) as definitions:
            assert [record.body.revision async for record in definitions] == [1]
        await leased(worker, "release")
        first = await leased(worker, "retry")
        await leased(worker, "done")
        assert (await leased(worker, "dead")).invocation.id == first.invocation.id
        for change in (Change.STARTED, Change.SUCCEEDED):
            record = InvocationChanged(invocation_id=InvocationId("first"), service=BLUR, change=change, at=NOW)
            assert await worker.log.append(changed_subject(change), record, key=BLUR) is not None
        lines = LogWritten(
            invocation_id=InvocationId("first"), service=BLUR, attempt=1, first_line=0, at=NOW, lines=("one",)
        )
        await worker.log.append(LOG_WRITTEN, lines, key=f"{BLUR}.first")
        async with worker.log.read(changed_subject(Change.CANCELLED), key=BLUR) as cancels:
            assert [record async for record in cancels] == []
        async with operator.live.subscribe("live.worker.>") as reports:
            await worker.live.publish("live.worker.blur.w1", b"{}")
            assert (await anext(reports))[0] == "live.worker.blur.w1"
    async with operator.log.read(SET_ASIDE) as letters:
        assert len([record async for record in letters]) == 1
    async with operator.log.read(CHANGED) as records:
        assert len([record async for record in records]) == 2


async def test_a_worker_cannot_make_events_or_cancel(server: GuardedBus, operator: Bus) -> None:
    async with server.worker(BLUR) as worker:
        with pytest.raises(REFUSED):
            await worker.log.append(RECEIVED, event("forged"), key=BLUR)
        cancelled = InvocationChanged(invocation_id=InvocationId("x"), service=BLUR, change=Change.CANCELLED, at=NOW)
        with pytest.raises(REFUSED):
            await worker.log.append(changed_subject(Change.CANCELLED), cancelled, key=BLUR)
    async with operator.log.read(RECEIVED) as events:
        assert [record async for record in events] == []


async def test_a_worker_cannot_read_what_arrived_or_the_platforms_state(server: GuardedBus, operator: Bus) -> None:
    await operator.registers.put("cursor.test", b"1")
    async with server.worker(BLUR) as worker:
        with pytest.raises(REFUSED):
            async with worker.log.read(RECEIVED):
                pass
        with pytest.raises(REFUSED):
            await worker.registers.get("cursor.test")


@pytest.mark.parametrize("identity", [name for name in COMPONENTS if name != "operator"])
async def test_only_the_operator_manages_streams(server: GuardedBus, operator: Bus, identity: str) -> None:
    settings = server.settings(server.keys / credentials_file(identity)).model_copy(update={"shards": 5})
    async with open_bus(settings, name=identity) as wants_more:
        with pytest.raises(REFUSED):
            await ensure_streams(wants_more)
    assert not await operator.streams.plan()


async def test_who_has_no_credentials_is_refused(server: GuardedBus) -> None:
    with pytest.raises(AccessDeniedError):
        async with open_bus(BusSettings(url=server.server.url), name="nobody"):
            pass


async def test_credentials_of_another_installation_are_refused(server: GuardedBus, tmp_path: Path) -> None:
    make_keys(tmp_path)
    with pytest.raises(AccessDeniedError):
        async with open_bus(server.settings(tmp_path / credentials_file("operator")), name="stranger"):
            pass
