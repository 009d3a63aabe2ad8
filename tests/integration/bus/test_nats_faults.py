"""The NATS adapter when servers and holders die, and when the server refuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats as nats_py
import pytest

from tests.contract.bus.world import SERVICE, asked, event, invocation, letter, next_of, soon, takes, until_backlog
from tests.retries import storing_retries
from tests.servers import Running, nats_server
from tidemill.platform.servers import NatsServer, free_port
from tidemill_common.bus import Backlog, Bus
from tidemill_common.bus.addresses import shard_of, work_stream
from tidemill_common.bus.nats import pulling
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.event import RECEIVED
from tidemill_common.contracts.retry import RETRY_ASKED
from tidemill_common.errors import AccessDeniedError, TransientError, UnavailableError, UnsupportedError
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Place:
    """A bus, and the server below it."""

    bus: Bus
    running: Running
    settings: BusSettings
    attendant: contextlib.AsyncExitStack
    """Closed: nobody stores retries any more."""

    async def crash(self) -> None:
        """kill -9 of the server, and start it again."""
        await asyncio.to_thread(self.running.kill)
        await asyncio.to_thread(self.running.start)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A server that may be killed."""
    with nats_server(tmp_path) as running:
        assert isinstance(running.server, NatsServer)
        settings = BusSettings(url=running.server.url, lease=timedelta(seconds=4))
        async with open_bus(settings, name="test") as bus:
            await ensure_streams(bus)
            async with contextlib.AsyncExitStack() as attendant:
                await attendant.enter_async_context(storing_retries(bus))
                yield Place(bus, running, settings, attendant)


def holder(url: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A child process that holds a Lease."""
    return _child("holder", url, SERVICE)


@contextlib.contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"tests.integration.bus.{module}", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


async def test_what_a_killed_worker_held_goes_to_another(place: Place) -> None:
    wanted = invocation()
    await place.bus.queue.submit(wanted)
    with holder(place.settings.url) as child:
        assert child.stdout is not None
        assert (await asyncio.to_thread(child.stdout.readline)).strip() == wanted.id
        async with place.bus.queue.leases(SERVICE, slots=1) as leases:
            coming = asyncio.ensure_future(anext(aiter(leases)))
            done, _ = await asyncio.wait([coming], timeout=5)  # the holder extends a lease of four seconds
            assert not done
            child.kill()
            lease = await soon(coming)
            assert (lease.invocation, lease.attempt, lease.lost) == (wanted, 2, 1)
            await lease.done()


async def test_a_planned_retry_survives_a_crash_of_the_server(place: Place) -> None:
    await place.bus.queue.submit(invocation())
    async with place.bus.queue.leases(SERVICE, slots=1) as leases:
        lease = await next_of(leases)
        loop = asyncio.get_running_loop()
        planned = loop.time()
        await lease.retry(timedelta(seconds=1.5), "exit 1")
        await place.crash()
        again = await next_of(leases)
        assert loop.time() - planned >= 1.4
        assert (again.invocation, again.attempt, again.failures) == (lease.invocation, 2, 1)
        await again.done()
    await until_backlog(place.bus, {})  # what asked for it may be answered later than what it asked for


async def test_what_was_asked_for_survives_a_crash_of_the_server(place: Place) -> None:
    """Nobody stores retries when it is asked for, nor when the server dies."""
    await place.attendant.aclose()
    await place.bus.queue.submit(invocation())
    async with place.bus.queue.leases(SERVICE, slots=1) as leases:
        await (await next_of(leases)).retry(timedelta(seconds=0.5), "exit 1")
        await place.crash()
        async with storing_retries(place.bus):
            again = await next_of(leases)
            assert (again.attempt, again.failures, again.lost) == (2, 1, 0)
            await again.done()
            await until_backlog(place.bus, {})


async def test_who_stores_retries_may_be_killed_at_any_time(place: Place) -> None:
    """Before it looked, and between storing and saying so: each comes once."""
    await place.attendant.aclose()
    wanted = [invocation() for _ in range(300)]
    for each in wanted:
        retry = asked(each)
        await place.bus.log.append(RETRY_ASKED, retry, key=SERVICE)
    for stored in (1, 50):
        with _child("retrier", place.settings.url, str(stored)) as child:
            assert child.stdout is not None
            for _ in range(stored):
                await asyncio.to_thread(child.stdout.readline)
            child.kill()
            child.wait()
    waiting = (await place.bus.queue.backlog())[SERVICE]
    assert waiting.batch == 51
    assert waiting.delayed >= 250, "the last one of each child is stored, and asked for all the same"
    came: list[str] = []
    async with storing_retries(place.bus), place.bus.queue.leases(SERVICE, slots=8) as leases:
        for _ in wanted:
            lease = await next_of(leases)
            assert (lease.attempt, lease.failures, lease.lost) == (3, 2, 0)
            came.append(lease.invocation.id)
            await lease.done()
        await until_backlog(place.bus, {})
    assert sorted(came) == sorted(each.id for each in wanted)


async def test_a_retry_that_an_earlier_version_planned_runs(place: Place) -> None:
    """Its Workers stored them by themselves."""
    await place.attendant.aclose()
    wanted, shard = invocation(), shard_of(SERVICE, place.settings.shards)
    due = datetime.now(UTC) + timedelta(seconds=3)
    headers = {
        "Nats-Message-Id": f"{wanted.id}.2",
        "Tidemill-Attempt": "2",
        "Tidemill-Failures": "1",
        "Nats-Schedule": f"@at {due.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": f"work.{shard}.{SERVICE}.batch",
    }
    client = await nats_py.connect(place.settings.url)
    await client.jetstream().publish(f"later.{shard}.{SERVICE}.batch.{wanted.id}", wanted.encode(), headers=headers)
    await client.close()
    assert await place.bus.queue.backlog() == {SERVICE: Backlog(delayed=1)}
    await place.crash()
    async with place.bus.queue.leases(SERVICE, slots=1) as leases:
        lease = await next_of(leases)
        assert datetime.now(UTC) >= due
        assert (lease.invocation, lease.attempt, lease.failures) == (wanted, 2, 1)
        await lease.done()


async def test_what_a_lease_stores_may_be_stored_again_and_nobody_can_guess_how(place: Place) -> None:
    """By its message id: a doubtful outcome is tried again, and another Service cannot take the id before."""
    await place.attendant.aclose()
    ids = []
    for _ in range(2):
        for each in (wanted := (invocation(), invocation())):
            await place.bus.queue.submit(each)
        async with place.bus.queue.leases(SERVICE, slots=2) as leases:
            await (await next_of(leases)).retry(timedelta(), "exit 1")
            lease = await next_of(leases)
            await lease.dead(letter(lease))
        ids += [await message_id(place, stream) for stream in ("RETRIES", "DEAD")]
        assert not [each for each in ids if any(known.id in each for known in wanted)]
    assert len(set(ids)) == 4


async def message_id(place: Place, stream: str) -> str:
    """Of the newest message."""
    client = await nats_py.connect(place.settings.url)
    js = client.jetstream()
    message = await js.get_msg(stream, (await js.stream_info(stream)).state.last_seq)
    await client.close()
    return str((message.headers or {})["Nats-Msg-Id"])


async def test_nothing_acknowledged_is_lost_when_the_server_crashes_under_load(place: Place) -> None:
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def append() -> None:
        while not stop.is_set():
            one = event()
            with contextlib.suppress(TransientError):
                await place.bus.log.append(RECEIVED, one, key="photos", message_id=one.id)
                acknowledged.append(one.id)

    async with place.bus.log.read(RECEIVED, follow=True) as records:
        writers = [asyncio.create_task(append()) for _ in range(16)]
        await until_more(acknowledged)
        await place.crash()
        await until_more(acknowledged)
        stop.set()
        await asyncio.gather(*writers)
        _, newest = await place.bus.log.end(RECEIVED)
        followed = [record.body.id for record in await takes(records, newest)]
    assert set(acknowledged) <= set(followed)
    assert len(followed) == len(set(followed)), "an event was stored twice"


async def until_more(items: list[str]) -> None:
    """Return when there are many more than now."""
    enough = len(items) + 1000
    async with asyncio.timeout(60):
        while len(items) < enough:
            await asyncio.sleep(0.02)


async def test_leases_and_dones_go_on_through_a_crash(place: Place) -> None:
    submitted = [invocation() for _ in range(300)]
    await asyncio.gather(*(place.bus.queue.submit(each) for each in submitted))
    done: set[str] = set()
    crashed = False
    async with place.bus.queue.leases(SERVICE, slots=8) as leases:
        while len(done) < len(submitted):
            lease = await next_of(leases)
            with contextlib.suppress(TransientError):
                await lease.done()
                done.add(lease.invocation.id)
            if len(done) >= 100 and not crashed:
                crashed = True
                await place.crash()
    assert done == {each.id for each in submitted}
    assert await place.bus.queue.backlog() == {}


async def test_idle_leases_come_back_at_once_after_a_crash(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull under way is lost with the server; the adapter asks again as soon as it is connected, or here never."""
    monkeypatch.setattr(pulling, "EXPIRES", timedelta(hours=1))
    monkeypatch.setattr(pulling, "SILENCE", timedelta(hours=1).total_seconds())
    async with place.bus.queue.leases(SERVICE, slots=2) as leases:
        coming = asyncio.ensure_future(anext(aiter(leases)))
        await asyncio.sleep(0.3)
        await place.crash()
        await place.bus.queue.submit(invocation())
        await (await soon(coming)).done()


async def test_consuming_goes_on_after_a_crash(place: Place) -> None:
    async with place.bus.log.consume(RECEIVED, consumer="c", in_flight=4) as deliveries:
        for _ in range(2):
            one = event()
            await place.bus.log.append(RECEIVED, one, key="a", message_id=one.id)
            while (delivery := await next_of(deliveries)).record.body.id != one.id:
                await delivery.ack()  # a server that is killed may forget the answer of just now
            await delivery.ack()
            await place.crash()


async def test_a_lease_is_answered_although_its_consumer_is_gone(place: Place) -> None:
    await place.bus.queue.submit(invocation())
    async with place.bus.queue.leases(SERVICE, slots=1) as leases:
        lease = await next_of(leases)
        client = await nats_py.connect(place.settings.url)
        stream = work_stream(shard_of(SERVICE, place.settings.shards))
        await client.jetstream().delete_consumer(stream, f"{SERVICE}-batch")
        await client.close()
        await lease.done()
        assert await place.bus.queue.backlog() == {}
        await place.bus.queue.submit(invocation())
        await (await next_of(leases)).done()


async def test_a_stream_that_would_lose_records_is_not_recreated(place: Place) -> None:
    client = await nats_py.connect(place.settings.url)
    js = client.jetstream()
    await js.delete_stream("EVENTS")
    await js.add_stream(name="EVENTS", subjects=["event.>"], storage="memory")
    await client.close()
    await place.bus.log.append(RECEIVED, event(), key="a")
    plan = await place.bus.streams.plan()
    assert [(change.stream, change.action.value) for change in plan] == [("EVENTS", "recreate")]
    with pytest.raises(UnsupportedError, match="1 messages"):
        await place.bus.streams.apply(plan)
    await place.bus.log.delete(RECEIVED, (await place.bus.log.end(RECEIVED))[1])
    await place.bus.streams.apply(plan)
    assert not await place.bus.streams.plan()


async def test_without_a_server_opening_fails_in_time() -> None:
    settings = BusSettings(url=f"nats://127.0.0.1:{free_port()}", request_timeout=timedelta(seconds=0.5))
    with pytest.raises(UnavailableError):
        async with open_bus(settings, name="test"):
            pass


async def test_while_the_server_is_away_calls_end_with_their_timeout(place: Place) -> None:
    settings = place.settings.model_copy(update={"request_timeout": timedelta(seconds=2)})
    async with open_bus(settings, name="test") as bus:
        await asyncio.to_thread(place.running.kill)
        with pytest.raises(TransientError):
            await bus.log.append(RECEIVED, event(), key="a", message_id="m")
        await asyncio.to_thread(place.running.start)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(TransientError):
                    await bus.log.append(RECEIVED, event(), key="a", message_id="m")
                    break
        assert await bus.log.end(RECEIVED) == (1, 1)


async def test_wrong_credentials_and_forbidden_subjects_are_refused(tmp_path: Path) -> None:
    server = NatsServer(
        directory=tmp_path / "nats",
        port=free_port(),
        monitor_port=free_port(),
        users=(("worker", "right", 'permissions { publish { deny: "event.>" } }'),),
    )
    running = Running(server, tmp_path / "log")
    running.start()
    try:
        settings = BusSettings.model_validate({"url": server.url, "user": "worker", "password": "wrong"})
        with pytest.raises(AccessDeniedError):
            async with open_bus(settings, name="test"):
                pass
        settings = BusSettings.model_validate({"url": server.url, "user": "worker", "password": "right"})
        async with open_bus(settings, name="test") as bus:
            await ensure_streams(bus)
            with pytest.raises(AccessDeniedError):
                await bus.log.append(RECEIVED, event(), key="a", message_id="m")
    finally:
        running.stop()
