"""The NATS adapter beside nats-py on the same server, runs alternating: `python -m tests.bench.bench_bus`.

Append with acknowledgement against `js.publish`; lease and done (which waits for the server's confirmation) against
`fetch` with `ack` (which does not) and with `ack_sync` (which does). Medians and ratios; the ratios are what counts.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import nats as nats_py
import uvloop
from nats.aio.client import Client

from tests.servers import nats_server
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.contract import EventId, ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.settings import BusSettings

RUNS = 5
MESSAGES = 10_000
NUMBERS = count()
SERVICE = ServiceName("bench")

Run = Callable[[], Awaitable[float]]


def _event() -> EventReceived:
    return EventReceived(id=EventId(f"e{next(NUMBERS)}"), source="/bench", type="org.example", time=datetime.now(UTC))


def _invocation() -> Invocation:
    return Invocation.of(_event(), service=SERVICE, owner="o", revision=1, trigger="direct", now=datetime.now(UTC))


async def _concurrently(number: int, work: Callable[[], Awaitable[object]]) -> float:
    """Messages a second with so many at a time."""
    left = iter(range(MESSAGES))

    async def one() -> None:
        for _ in left:
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(number)))
    return MESSAGES / (time.perf_counter() - began)


def _append(bus: Bus, concurrent: int) -> Run:
    async def work() -> None:
        one = _event()
        await bus.log.append(RECEIVED, one, key="bench", message_id=one.id)

    return lambda: _concurrently(concurrent, work)


def _publish(client: Client, concurrent: int) -> Run:
    stream = client.jetstream()

    async def work() -> None:
        one = _event()
        await stream.publish("event.v1.received.bench", one.encode(), headers={"Nats-Msg-Id": one.id})

    return lambda: _concurrently(concurrent, work)


def _leases(bus: Bus, slots: int) -> Run:
    async def run() -> float:
        await asyncio.gather(*(bus.queue.submit(_invocation()) for _ in range(MESSAGES)))
        began = time.perf_counter()
        answering = set()
        async with bus.queue.leases(SERVICE, slots=slots) as leases:
            taken = 0
            async for lease in leases:
                task = asyncio.ensure_future(lease.done())
                answering.add(task)
                task.add_done_callback(answering.discard)
                taken += 1
                if taken == MESSAGES:
                    break
            await asyncio.gather(*answering)
            return MESSAGES / (time.perf_counter() - began)

    return run


def _fetch(client: Client, bus: Bus, batch: int, *, confirmed: bool) -> Run:
    stream = client.jetstream()

    async def run() -> float:
        await asyncio.gather(*(bus.queue.submit(_invocation()) for _ in range(MESSAGES)))
        subscription = await stream.pull_subscribe("", durable=f"{SERVICE}-batch", stream="WORK_0")
        began, taken = time.perf_counter(), 0
        while taken < MESSAGES:
            messages = await subscription.fetch(min(batch, MESSAGES - taken), timeout=5)
            taken += len(messages)
            decoded = [Invocation.decode(message.data) for message in messages]
            assert decoded
            if confirmed:
                await asyncio.gather(*(message.ack_sync() for message in messages))
            else:
                for message in messages:
                    await message.ack()
        await client.flush()
        rate = MESSAGES / (time.perf_counter() - began)
        await subscription.unsubscribe()
        return rate

    return run


async def _compare(title: str, ours: Run, *theirs: tuple[str, Run]) -> None:
    runs = [ours, *(run for _, run in theirs)]
    figures: list[list[float]] = [[] for _ in runs]
    for _ in range(RUNS):
        for run, found in zip(runs, figures, strict=True):
            found.append(await run())
    own, *others = (statistics.median(found) for found in figures)
    told = ", ".join(
        f"{name} {rate:,.0f}/s ({own / rate:.2f}x)" for (name, _), rate in zip(theirs, others, strict=True)
    )
    print(f"{title}: {own:,.0f}/s; {told}", flush=True)


async def _bench(url: str) -> None:
    settings = BusSettings(url=url, shards=1, lease=timedelta(minutes=1))
    client = await nats_py.connect(url)
    async with open_bus(settings, name="bench") as bus:
        await ensure_streams(bus)
        for concurrent in (64, 256):
            await _compare(
                f"append, {concurrent} at a time",
                _append(bus, concurrent),
                ("js.publish", _publish(client, concurrent)),
            )
        for slots in (64, 256):
            await _compare(
                f"lease and done, {slots} slots",
                _leases(bus, slots),
                ("fetch+ack", _fetch(client, bus, slots, confirmed=False)),
                ("fetch+ack_sync", _fetch(client, bus, slots, confirmed=True)),
            )
    await client.close()


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as directory, nats_server(Path(directory)) as running:
        assert isinstance(running.server, NatsServer)
        uvloop.run(_bench(running.server.url))


if __name__ == "__main__":
    main()
