"""Resident scripts through the whole chain: Invocations a second, where their CPU time goes, latency to the handler.

"A core" is reckoned from CPU seconds: all that the platform's processes used for an Invocation, without the load
generator and without the script itself. One machine, so wall clocks agree.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from tests.bench.bench_chain import job_latency, latency, row, warm
from tests.bench.http_load import post_many
from tests.embedded import Platform, running_platform

CALLS = 4_000
ROLES = ("gateway", "storage_bridge", "scheduler", "supervisor", "nats-server", "weed", "resident-")
NOOP = """#!/usr/bin/env python3
from tidemill_resident import serve
serve(lambda request: None)
"""
CLOCK = """#!/usr/bin/env python3
import time
from tidemill_resident import serve
serve(lambda request: print(time.time_ns()))
"""


def cpu_seconds(platform: Platform) -> dict[str, float]:
    """CPU time so far by role."""
    found: dict[str, float] = {}
    for process in [*platform.processes(), psutil.Process(platform.process.pid)]:
        command = " ".join(process.cmdline())
        role = next((role for role in reversed(ROLES) if role in command), "other")
        times = process.cpu_times()
        found[role] = found.get(role, 0) + times.user + times.system
    return found


async def noops(platform: Platform, token: str, *, concurrently: int) -> tuple[float, dict[str, float]]:
    """(Invocations a second from the first request to the last success, CPU microseconds of each by role)."""
    url, headers = platform.connection["endpoint"] + "/job/noop", {"Authorization": f"Bearer {token}"}
    before, used = platform.accounts("noop")["succeeded"], cpu_seconds(platform)
    begin = time.perf_counter()
    await post_many(url, times=CALLS, connections=concurrently, headers=headers)
    while await asyncio.to_thread(lambda: platform.accounts("noop")["succeeded"]) < before + CALLS:
        await asyncio.sleep(0.25)
    seconds = time.perf_counter() - begin
    return CALLS / seconds, {
        role: (total - used.get(role, 0)) / CALLS * 1e6 for role, total in cpu_seconds(platform).items()
    }


async def measure(platform: Platform) -> None:
    """All figures of one platform."""
    print("| figure | measured | to reach |\n|---|---|---|")
    clock = await asyncio.to_thread(warm, platform, "clock", CLOCK, scale=1, resident=True)
    auth = (platform.connection["username"], platform.connection["password"])
    endpoint = platform.connection["endpoint"]
    async with (
        httpx.AsyncClient(base_url=endpoint, timeout=60) as client,
        httpx.AsyncClient(base_url=endpoint, timeout=60, auth=auth) as admin,
    ):
        row("POST /job -> resident handler, p50/p99", latency(await job_latency(client, admin, clock)), "<= 3 ms p50")
    noop = await asyncio.to_thread(warm, platform, "noop", NOOP, scale=1, resident=True)
    rounds = [await noops(platform, noop, concurrently=32) for _ in range(3)]
    row("no-op resident Invocations, wall, two cores", f"{statistics.median(rate for rate, _ in rounds):.0f}/s", "-")
    spent = {role: statistics.median(used.get(role, 0) for _, used in rounds) for role in (*ROLES, "other")}
    own = sum(used for role, used in spent.items() if role != "resident-")
    row("no-op resident Invocations a core (CPU time)", f"{1e6 / own:.0f}/s", ">= 3000/s")
    for role, used in sorted(spent.items(), key=lambda item: -item[1]):
        row(f"CPU of one Invocation, {'the script' if role == 'resident-' else role}", f"{used:.0f} µs", "-")


def main() -> int:
    """Start a platform, measure, stop it."""
    with tempfile.TemporaryDirectory() as scratch, running_platform(Path(scratch)) as platform:
        asyncio.run(measure(platform))
    return 0


if __name__ == "__main__":
    sys.exit(main())
