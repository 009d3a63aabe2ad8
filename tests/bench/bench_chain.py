"""The whole chain on this machine: latency from Event to user code, sync calls, no-op Invocations a second, memory.

User code is a fresh process for each Invocation (`/bin/sh`), Workers are warm. One machine, so wall clocks agree.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.http_load import post_many
from tests.embedded import Platform, running_platform, wait_until

NOOPS = 4000
SAMPLES = 200


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def row(name: str, value: str, goal: str) -> None:
    """One line of the table."""
    print(f"| {name} | {value} | {goal} |", flush=True)


def latency(values: Sequence[float]) -> str:
    """p50/p99 in milliseconds."""
    return f"{statistics.median(values) * 1e3:.1f} / {percentile(values, 0.99) * 1e3:.1f} ms"


def warm(platform: Platform, name: str, script: str, *, scale: int, **fields: Any) -> str:
    """A Service with warm Workers that have run once; returns its token."""
    token = platform.apply(
        {
            "name": name,
            "script": script,
            "cpu": "0.2",
            "memory": "64Mi",
            "synchronous": {"min_scale": scale, "max_scale": scale},
            **fields,
        }
    )
    call = {"content": b"", "headers": {"Authorization": f"Bearer {token}"}}
    wait_until(lambda: platform.api("POST", f"/run/{name}", **call).status_code == 200, f"{name} answers")
    return token


async def timed(times: int, once: Callable[[], Awaitable[float]]) -> list[float]:
    """What `once` measured, again and again, one at a time."""
    return [await once() for _ in range(times)]


async def job_latency(client: httpx.AsyncClient, admin: httpx.AsyncClient, token: str) -> list[float]:
    """From before `POST /job` to the first command of the script (`date` in it), in seconds."""

    async def once() -> float:
        begin = time.time()
        answer = await client.post("/job/clock", content=b"", headers={"Authorization": f"Bearer {token}"})
        while True:
            found = (await admin.get(answer.headers["Location"])).json()
            if found.get("phase") == "Succeeded":
                return int(found["log_tail"].split()[0]) / 1e9 - begin
            await asyncio.sleep(0.02)

    return await timed(SAMPLES, once)


async def upload_to_start(platform: Platform) -> list[float]:
    """From the end of an upload to the first command of the script, in seconds; includes the input's download."""
    found: list[float] = []
    async with platform.store() as store:
        for number in range(SAMPLES):
            await store.put(f"watched/in/{number}", b"x")
            begin = time.time()
            path = f"watched/out/{number}"
            while await store.head(path) is None:
                await asyncio.sleep(0.02)
            found.append(int((await store.get(path)).split()[0]) / 1e9 - begin)
    return found


async def sync_overhead(client: httpx.AsyncClient, token: str) -> list[float]:
    """Of a synchronous call over the script's own time (a bare `/bin/sh` of the same script, timed beside it)."""
    own = []
    for _ in range(50):
        begin = time.perf_counter()
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "date +%s%N", stdout=asyncio.subprocess.PIPE)
        await process.communicate()
        own.append(time.perf_counter() - begin)
    script = statistics.median(own)

    async def once() -> float:
        begin = time.perf_counter()
        answer = await client.post("/run/clock", content=b"", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return time.perf_counter() - begin - script

    return await timed(SAMPLES, once)


async def noop_rate(platform: Platform, token: str) -> float:
    """No-op Invocations a second through the whole chain, from the first request to the last success."""
    url, headers = platform.connection["endpoint"] + "/job/noop", {"Authorization": f"Bearer {token}"}
    before = platform.accounts("noop")["succeeded"]
    begin = time.perf_counter()
    await post_many(url, times=NOOPS, connections=16, headers=headers)
    while await asyncio.to_thread(lambda: platform.accounts("noop")["succeeded"]) < before + NOOPS:
        await asyncio.sleep(0.5)
    return NOOPS / (time.perf_counter() - begin)


def memory(platform: Platform) -> dict[str, float]:
    """Resident MB by role; shared pages count in each."""
    roles: dict[str, float] = {}
    for process in [*platform.processes(), psutil.Process(platform.process.pid)]:
        command = " ".join(process.cmdline())
        known = ("gateway", "storage_bridge", "scheduler", "supervisor", "nats-server", "weed", "tidemill up")
        role = next((role for role in known if role in command), "other")
        roles[role] = roles.get(role, 0) + process.memory_info().rss / 2**20
    return roles


async def measure(platform: Platform) -> None:
    """All figures of one platform."""
    idle = memory(platform)
    print("| figure | measured | to reach |\n|---|---|---|")
    row("platform idle, resident", f"{sum(idle.values()):.0f} MB", "<= 600 MB")
    clock = await asyncio.to_thread(warm, platform, "clock", "date +%s%N\n", scale=1)
    stage = {
        "input": [{"storage_provider": "minio.default", "path": "watched/in"}],
        "output": [{"storage_provider": "minio.default", "path": "watched/out"}],
    }
    watched = (
        'now=$(date +%s%N); [ -z "$INPUT_FILE_PATH" ] || echo $now > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"\n'
    )
    await asyncio.to_thread(warm, platform, "watched", watched, scale=1, **stage)
    auth = (platform.connection["username"], platform.connection["password"])
    endpoint = platform.connection["endpoint"]
    async with (
        httpx.AsyncClient(base_url=endpoint, timeout=60) as client,
        httpx.AsyncClient(base_url=endpoint, timeout=60, auth=auth) as admin,
    ):
        started = await job_latency(client, admin, clock)
        row("POST /job -> user code starts, p50/p99", latency(started), "<= 10 / 30 ms")
        row("upload -> user code starts, p50/p99", latency(await upload_to_start(platform)), "(with stage-in)")
        row("sync call over script's own time, p50/p99", latency(await sync_overhead(client, clock)), "<= 10 / 30 ms")
        noop = await asyncio.to_thread(warm, platform, "noop", "exit 0\n", scale=2, slots=2)
        rates = [await noop_rate(platform, noop) for _ in range(3)]
        row("no-op Invocations, whole chain", f"{statistics.median(rates):.0f}/s", ">= 200/s")
    loaded = memory(platform)
    for role in sorted(loaded):
        row(
            f"memory of {role}, idle -> after {3 * NOOPS} no-ops",
            f"{idle.get(role, 0):.0f} -> {loaded[role]:.0f} MB",
            "flat",
        )


def main() -> int:
    """Start a platform, measure, stop it."""
    with tempfile.TemporaryDirectory() as scratch, running_platform(Path(scratch)) as platform:
        asyncio.run(measure(platform))
    return 0


if __name__ == "__main__":
    sys.exit(main())
