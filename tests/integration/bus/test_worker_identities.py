"""A Worker's identity on a real server: everything of its own Service, nothing of another's, and only for its time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.identities import GuardedBus, Intruder, guarded_bus, intruding
from tests.retries import storing_retries
from tidemill.platform.keys import credentials_file
from tidemill_common.bus import Backlog, Bus, Lease, Leases
from tidemill_common.bus.addresses import shard_of
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName
from tidemill_common.contracts.event import EventReceived, Lane
from tidemill_common.contracts.invocation import Change, Invocation, InvocationChanged, changed_subject
from tidemill_common.contracts.poison import POISONED
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import TidemillError
from tidemill_common.settings import BusSettings
from tidemill_supervisor.appending import append_surely

pytestmark = pytest.mark.integration

OURS = ServiceName("ours")
SHARDS = BusSettings().shards
SHARD = shard_of(OURS, SHARDS)
THEIRS = next(name for n in range(99) if shard_of(name := ServiceName(f"theirs-{n}"), SHARDS) == SHARD)
"""On the same shard, so that nothing but the name keeps them apart."""
NOW = datetime.now(UTC)
TIME = timedelta(seconds=5)
"""Of an identity that ends during a test."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBus]:
    with guarded_bus(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def operator(server: GuardedBus) -> AsyncIterator[Bus]:
    async with server.component("operator") as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
async def intruder(server: GuardedBus, operator: Bus) -> AsyncIterator[Intruder]:
    """Who has the identity of our Service's Workers."""
    async with intruding(server.server.url, server.issue(OURS)) as connected:
        yield connected


@pytest.fixture
async def owner(server: GuardedBus, operator: Bus) -> AsyncIterator[Intruder]:
    """Who has that of the other Service: the control, for what nobody may do proves nothing."""
    async with intruding(server.server.url, server.issue(THEIRS)) as connected:
        yield connected


def invocation(identity: str, service: ServiceName) -> Invocation:
    event = EventReceived(id=EventId(identity), source="/test", type="test", time=NOW, service=service)
    return Invocation(id=InvocationId(identity), service=service, event=event, requested_at=NOW)


OF_THEIRS = (
    *(f"invocation.v1.{change}.{THEIRS}" for change in ("started", "retried", "succeeded", "failed", "dead")),
    f"log.v1.written.{THEIRS}.i1",
    f"deadletter.v1.aside.{THEIRS}",
    f"retry.v1.asked.{THEIRS}",
    f"live.worker.{THEIRS}.w1",
    f"$JS.API.CONSUMER.CREATE.WORK_{SHARD}.{THEIRS}-batch.work.{SHARD}.{THEIRS}.batch",
    f"$JS.API.CONSUMER.MSG.NEXT.WORK_{SHARD}.{THEIRS}-batch",
    f"$JS.API.CONSUMER.CREATE.LIFECYCLE.read-x.invocation.v1.cancelled.{THEIRS}",
    f"$JS.API.CONSUMER.CREATE.DEFINITIONS.read-x.service.v1.defined.{THEIRS}",
    f"$JS.ACK.WORK_{SHARD}.{THEIRS}-batch.1.1.1.1.0",
    f"_INBOX.worker.{THEIRS}.x",
)


@pytest.mark.parametrize("subject", OF_THEIRS)
async def test_a_worker_cannot_say_what_is_another_services_to_say(
    intruder: Intruder, owner: Intruder, subject: str
) -> None:
    assert not await intruder.may_publish(subject)
    assert await owner.may_publish(subject)


@pytest.mark.parametrize(
    "subject",
    [
        f"event.v1.received.{OURS}",
        f"invocation.v1.cancelled.{OURS}",
        f"invocation.v1.requested.{OURS}",
        f"service.v1.defined.{OURS}",
        "state.leader.scheduler",
        f"work.{SHARD}.{OURS}.batch",
        f"work.{SHARD}.{THEIRS}.batch",
        f"later.{SHARD}.{OURS}.batch.i1",
        f"later.{SHARD}.{THEIRS}.batch.i1",
        f"live.work.{OURS}",
        f"live.drain.{OURS}.w1",
        f"$JS.API.STREAM.PURGE.WORK_{SHARD}",
        f"$JS.API.STREAM.DELETE.WORK_{SHARD}",
        f"$JS.API.STREAM.UPDATE.WORK_{SHARD}",
        "$JS.API.STREAM.CREATE.MINE",
        f"$JS.API.STREAM.MSG.DELETE.WORK_{SHARD}",
        f"$JS.API.STREAM.MSG.GET.WORK_{SHARD}",
        f"$JS.API.DIRECT.GET.WORK_{SHARD}",
        "$JS.API.CONSUMER.NAMES.LIFECYCLE",
        "$JS.API.CONSUMER.LIST.LIFECYCLE",
        "$JS.API.CONSUMER.CREATE.LIFECYCLE",
        "$JS.API.CONSUMER.CREATE.LIFECYCLE.mine",
        "$JS.API.CONSUMER.DURABLE.CREATE.LIFECYCLE.mine",
        f"$JS.API.CONSUMER.DELETE.WORK_{SHARD}.{OURS}-batch",
        "$JS.API.CONSUMER.CREATE.EVENTS.mine.event.>",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.bridge-routing",
        "$JS.API.CONSUMER.CREATE.RETRIES.mine.retry.>",
        f"$JS.API.CONSUMER.CREATE.RETRIES.mine.retry.v1.asked.{OURS}",
        "$JS.API.CONSUMER.MSG.NEXT.RETRIES.bridge-retries",
        "$JS.API.STREAM.PURGE.RETRIES",
        "$JS.ACK.RETRIES.bridge-retries.1.1.1.1.0",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_a_worker_cannot_say_what_only_others_may(intruder: Intruder, subject: str) -> None:
    assert not await intruder.may_publish(subject)


@pytest.mark.parametrize(
    "subject",
    [
        ">",
        "_INBOX.>",
        "_INBOX.*.*",
        "_INBOX.gateway.>",
        f"_INBOX.worker.{THEIRS}.>",
        f"live.cause.{THEIRS}.>",
        f"live.drain.{THEIRS}.>",
        "live.reply.>",
        f"invocation.v1.cancelled.{THEIRS}",
        f"work.{SHARD}.{THEIRS}.>",
        f"work.{SHARD}.{OURS}.>",
        "retry.v1.asked.>",
        "$JS.EVENT.ADVISORY.>",
    ],
)
async def test_a_worker_cannot_listen_to_others(intruder: Intruder, subject: str) -> None:
    assert not await intruder.may_subscribe(subject)


@pytest.mark.parametrize(
    "subject", [f"_INBOX.worker.{OURS}.>", f"live.cause.{OURS}.>", f"live.drain.{OURS}.>", f"live.cause.{OURS}.w1"]
)
async def test_a_worker_hears_what_is_for_its_service(intruder: Intruder, subject: str) -> None:
    assert await intruder.may_subscribe(subject)


@pytest.mark.parametrize(
    "filters",
    [
        {"filter_subject": f"work.{SHARD}.{THEIRS}.batch"},
        {"filter_subject": f"work.{SHARD}.>"},
        {"filter_subject": ""},
        {"filter_subjects": [f"work.{SHARD}.{OURS}.batch", f"work.{SHARD}.{THEIRS}.batch"]},
    ],
)
async def test_a_request_that_says_one_thing_and_means_another_is_refused(
    intruder: Intruder, filters: dict[str, Any]
) -> None:
    config = {"name": f"{OURS}-batch", "durable_name": f"{OURS}-batch", "ack_policy": "explicit", **filters}
    subject = f"$JS.API.CONSUMER.CREATE.WORK_{SHARD}.{OURS}-batch.work.{SHARD}.{OURS}.batch"
    request = {"stream_name": f"WORK_{SHARD}", "config": config}
    answer = json.loads((await intruder.client.request(subject, json.dumps(request).encode(), timeout=20)).data)
    assert "error" in answer
    config = {**config, "filter_subject": f"work.{SHARD}.{OURS}.batch"}
    config.pop("filter_subjects", None)
    request = {"stream_name": f"WORK_{SHARD}", "config": config}
    answer = json.loads((await intruder.client.request(subject, json.dumps(request).encode(), timeout=20)).data)
    assert "error" not in answer


async def test_a_worker_leases_only_its_own_work(server: GuardedBus, operator: Bus) -> None:
    for service in (OURS, THEIRS):
        await operator.queue.purge(service)
        await operator.queue.submit(invocation(f"{service}-1", service))
    async with server.worker(OURS) as worker, worker.queue.leases(OURS, slots=4) as leases:
        lease = await first(leases)
        assert lease.invocation.service == OURS
        await lease.done()
        with pytest.raises(TidemillError):
            async with worker.queue.leases(THEIRS, slots=1):
                pass
    assert (await operator.queue.backlog())[THEIRS].batch == 1
    await operator.queue.purge(THEIRS)


SCHEDULE = {"Nats-Schedule": "@at 2100-01-01T00:00:00Z"}
BY_HEADERS = (
    {**SCHEDULE, "Nats-Schedule-Target": f"work.{SHARD}.{THEIRS}.batch"},
    {
        **SCHEDULE,
        "Nats-Schedule-Target": f"work.{SHARD}.{OURS}.batch",
        "Nats-Schedule-Source": f"work.{SHARD}.{THEIRS}.batch",
    },
    {"Nats-Rollup": "all"},
)
"""What made the server reach other Services, for whoever might store on a work queue: it looks at subjects alone."""
LANE = f"work.{SHARD}.{OURS}.batch"
PLAN = f"later.{SHARD}.{OURS}.batch.i1"


@pytest.mark.parametrize("subject", [LANE, PLAN])
@pytest.mark.parametrize("headers", BY_HEADERS)
async def test_a_worker_cannot_store_on_a_work_queue_at_all(
    intruder: Intruder, operator: Bus, subject: str, headers: dict[str, str]
) -> None:
    await operator.queue.submit(invocation("theirs", THEIRS))
    waiting = await operator.queue.backlog()
    assert not await intruder.may_publish(subject, headers=headers)
    assert await operator.queue.backlog() == waiting


@pytest.mark.parametrize("headers", [*BY_HEADERS, SCHEDULE, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}])
async def test_headers_that_make_the_server_act_are_refused_where_retries_are_asked_for(
    intruder: Intruder, operator: Bus, headers: dict[str, str]
) -> None:
    theirs = ask("theirs", THEIRS)
    await operator.log.append(RETRY_ASKED, theirs, key=THEIRS)
    waiting = await operator.queue.backlog()
    assert waiting[THEIRS].delayed
    subject = f"retry.v1.asked.{OURS}"
    body = ask("ours", OURS).encode()
    answer = json.loads((await intruder.client.request(subject, body, timeout=20, headers=headers)).data)
    assert "error" in answer
    assert await operator.queue.backlog() == waiting
    await operator.queue.purge(THEIRS)


async def test_a_retry_that_a_worker_asks_for_comes_without_its_headers(
    server: GuardedBus, intruder: Intruder, operator: Bus
) -> None:
    await operator.queue.purge(OURS)
    headers = {
        "Nats-Schedule-Target": f"work.{SHARD}.{THEIRS}.batch",
        "Nats-Msg-Id": "theirs",
        "Tidemill-Attempt": "9",
        "X-Else": "x",
    }
    body = ask("asked", OURS).encode()
    await intruder.client.request(f"retry.v1.asked.{OURS}", body, timeout=20, headers=headers)
    async with server.component("bridge") as bridge, storing_retries(bridge):
        await until_backlog(operator, OURS, Backlog(batch=1))
    stored = await last_stored(server, LANE)
    assert set(stored) == {"Nats-Msg-Id", "Tidemill-Attempt", "Tidemill-Failures"}
    assert (stored["Nats-Msg-Id"], stored["Tidemill-Attempt"]) == (ask("asked", OURS).message_id(), "2")
    await operator.queue.purge(OURS)


async def test_an_ask_that_is_about_another_service_is_set_aside(
    server: GuardedBus, intruder: Intruder, operator: Bus
) -> None:
    await operator.queue.purge(OURS)
    before = await operator.queue.backlog()
    mixed = ask("mixed", OURS).model_copy(update={"invocation": invocation("mixed", THEIRS).encode()})
    for each in (ask("theirs", THEIRS), mixed):
        await intruder.client.request(f"retry.v1.asked.{OURS}", each.encode(), timeout=20)
    async with server.component("bridge") as bridge, storing_retries(bridge):
        async with asyncio.timeout(30), operator.log.read(POISONED, key=OURS, follow=True) as records:
            reasons = [(await anext(records)).body.message for _ in range(2)]
        await until_backlog(operator, OURS, None)
    assert all(THEIRS in reason for reason in reasons)
    assert await operator.queue.backlog() == before


async def test_an_intruder_cannot_keep_anothers_ask_from_being_stored(
    server: GuardedBus, intruder: Intruder, operator: Bus
) -> None:
    """By its message id: all Services share the Stream, and the server looks for repeats in all of it."""
    for service in (OURS, THEIRS):
        await operator.queue.purge(service)
    await operator.queue.submit(invocation("kept", THEIRS))
    theirs = ask("kept", THEIRS)
    for guess in (theirs.message_id(), "kept", "kept.2"):
        await intruder.client.request(f"retry.v1.asked.{OURS}", b"{}", timeout=20, headers={"Nats-Msg-Id": guess})
    false = theirs.model_copy(update={"service": OURS, "invocation": invocation("kept", OURS).encode()})
    await intruder.client.request(f"retry.v1.asked.{OURS}", false.encode(), timeout=20)
    async with (
        server.component("bridge") as bridge,
        storing_retries(bridge),
        server.worker(THEIRS) as worker,
        worker.queue.leases(THEIRS, slots=1) as leases,
    ):
        await until_backlog(operator, OURS, Backlog(batch=1))
        await (await first(leases)).retry(timedelta(), "test")
        again = await first(leases)
        assert (again.invocation.id, again.attempt) == ("kept", 2)
        await again.done()
    await operator.queue.purge(OURS)


async def test_the_scheduler_drops_a_removed_services_backlog_and_nothing_else(
    server: GuardedBus, operator: Bus
) -> None:
    await operator.queue.purge(OURS)
    await operator.queue.submit(invocation("left", OURS))
    await operator.log.append(RETRY_ASKED, ask("left", OURS), key=OURS)
    async with server.component("scheduler") as scheduler:
        assert await scheduler.queue.purge(OURS) == 2
    async with intruding(server.server.url, server.keys / credentials_file("scheduler")) as scheduling:
        for stream in ("EVENTS", "LIFECYCLE", "LOGS", "DEAD", "DEFINITIONS", "STATE"):
            assert not await scheduling.may_publish(f"$JS.API.STREAM.PURGE.{stream}")
        for subject in (LANE, PLAN, f"retry.v1.asked.{OURS}", "event.v1.received.x"):
            assert not await scheduling.may_publish(subject)


async def test_an_attempt_outlives_the_identity_it_began_with(server: GuardedBus, operator: Bus) -> None:
    """Its Lease and its records: the server ends the connection, and the file has another identity by then."""
    path = server.issue(OURS, lifetime=TIME)
    await operator.queue.purge(OURS)
    await operator.queue.submit(invocation("long", OURS))
    settings = server.settings(path).model_copy(update={"lease": 2 * TIME})
    ends = datetime.now(UTC) + 2.5 * TIME
    renewals = 0
    async with open_bus(settings, name="worker") as worker, worker.queue.leases(OURS, slots=1) as leases:
        lease = await first(leases)
        while datetime.now(UTC) < ends:
            await asyncio.sleep(TIME.total_seconds() / 4)
            server.issue(OURS, lifetime=TIME)
            renewals += 1
            await lease.extend()
            subject, body = record(f"s{renewals}", Change.STARTED)
            await append_surely(worker.log, subject, body, key=OURS, message_id=body.message_id())
        await lease.done()
        assert (lease.attempt, lease.lost) == (1, 0)
    assert OURS not in await operator.queue.backlog()
    async with operator.log.read(changed_subject(Change.STARTED), key=OURS) as records:
        stored = [each.body.invocation_id async for each in records]
    assert stored == [f"s{n}" for n in range(1, renewals + 1)]


async def test_an_identity_that_nobody_renews_ends(server: GuardedBus, operator: Bus) -> None:
    path = server.issue(OURS, lifetime=TIME)
    async with open_bus(server.settings(path), name="worker") as worker:
        assert await worker.log.append(*record("before", Change.SUCCEEDED), key=OURS) is not None
        await until_refused(worker)
        server.issue(OURS, lifetime=TIME)
        await until_accepted(worker)


async def test_a_file_that_is_damaged_for_a_while_costs_nothing_but_that_while(
    server: GuardedBus, operator: Bus
) -> None:
    path = server.issue(OURS, lifetime=TIME)
    async with open_bus(server.settings(path), name="worker") as worker:
        path.write_text("not credentials")
        await until_refused(worker)
        server.issue(OURS)
        await until_accepted(worker)


async def test_a_missing_file_is_named(server: GuardedBus, tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match=r"gone\.creds"):
        async with open_bus(server.settings(tmp_path / "gone.creds"), name="worker"):
            pass


async def first(leases: Leases) -> Lease:
    async for lease in leases:
        return lease
    raise AssertionError("no lease")


def ask(identity: str, service: ServiceName) -> RetryAsked:
    body = invocation(identity, service)
    return RetryAsked(
        service=service, lane=Lane.BATCH, invocation_id=body.id, invocation=body.encode(), attempt=2, failures=1
    )


async def last_stored(server: GuardedBus, subject: str) -> dict[str, str]:
    """Headers of the newest message there."""
    async with intruding(server.server.url, server.keys / credentials_file("operator")) as reader:
        message = await reader.client.jetstream().get_last_msg(f"WORK_{SHARD}", subject)
    return dict(message.headers or {})


async def until_backlog(bus: Bus, service: ServiceName, wanted: Backlog | None) -> None:
    deadline = time.monotonic() + 30
    while (found := (await bus.queue.backlog()).get(service)) != wanted:
        assert time.monotonic() < deadline, f"{found} waits for {service}, and not {wanted}"
        await asyncio.sleep(0.02)


def record(identity: str, change: Change) -> tuple[Any, InvocationChanged]:
    body = InvocationChanged(invocation_id=InvocationId(identity), service=OURS, change=change, at=NOW)
    return changed_subject(change), body


async def until_refused(worker: Bus) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await worker.log.append(*record("again", Change.SUCCEEDED), key=OURS)
            except TidemillError:
                return
            await asyncio.sleep(0.1)


async def until_accepted(worker: Bus) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await worker.log.append(*record("again", Change.SUCCEEDED), key=OURS)
                return
            except TidemillError:
                await asyncio.sleep(0.1)
