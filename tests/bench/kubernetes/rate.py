"""Many Events at once with a pod for each, against a plain loop that creates the same Jobs in the same namespace."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.bench.kubernetes.figures import heading, row
from tests.bench.kubernetes.jobs import PlainJobs, same_as
from tests.bench.kubernetes.latency import Caller, caller
from tests.scenarios import Target
from tidemill_scheduler.launchers.kubernetes.api import Object

SCRIPT = "true\n"
CPU = "0.1"


async def measure_rate(target: Target, client: httpx.AsyncClient, plain: PlainJobs, events: int) -> None:
    """Print what both finish in a second, counted by the Jobs that are complete."""
    each = await asyncio.to_thread(caller, target, client, "each", script=SCRIPT, reuse=1, cpu=CPU)
    first = await each.call()
    await each.ended(first)
    worker = await plain.newest(each.service)
    await plain.ended_pod(worker["metadata"]["name"])
    loop = await _plain_rate(plain, worker, events)
    platform = await _platform_rate(plain, each, events)
    await asyncio.to_thread(target.remove, each.service)
    heading(f"{events} Events, a pod for each")
    row("plain loop of the same Jobs", f"{loop:.2f}/s")
    row("Events finished", f"{platform:.2f}/s = {platform / loop:.2f} of the loop", ">= 0.95")


async def _plain_rate(plain: PlainJobs, worker: Object, events: int) -> float:
    begin = time.perf_counter()
    for _ in range(events):
        await plain.api.create(plain.jobs, same_as(worker, user="true", supervisor="true"))
    await plain.completed("bench=plain", events)
    rate = events / (time.perf_counter() - begin)
    await plain.remove("bench=plain")
    return rate


async def _platform_rate(plain: PlainJobs, each: Caller, events: int) -> float:
    before = await plain.count_complete(f"tidemill.io/service={each.service}")
    begin = time.perf_counter()
    for _ in range(events):
        await each.call()
    await plain.completed(f"tidemill.io/service={each.service}", before + events)
    return events / (time.perf_counter() - begin)
