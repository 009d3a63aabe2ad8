"""`make bench-kubernetes`: the figures of "In a cluster" in docs/performance.md, on the cluster of $KUBECONFIG."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx

from tests.bench.kubernetes.fleet import measure_fleet
from tests.bench.kubernetes.jobs import PlainJobs
from tests.bench.kubernetes.latency import measure_cold, measure_warm
from tests.bench.kubernetes.memory import measure_memory
from tests.bench.kubernetes.platform import installed
from tests.bench.kubernetes.rate import measure_rate
from tests.bench.kubernetes.writes import measure_writes
from tests.kubernetes.release import Release
from tests.scenarios import Target
from tidemill_scheduler.launchers.kubernetes.api import open_api

PARTS: Final = ("writes", "latency", "rate", "fleet")
SAMPLES: Final = int(os.environ.get("TIDEMILL_BENCH_SAMPLES", "60"))
EVENTS: Final = int(os.environ.get("TIDEMILL_BENCH_EVENTS", "200"))
WRITES: Final = int(os.environ.get("TIDEMILL_BENCH_WRITES", "20"))
NODES: Final = int(os.environ.get("TIDEMILL_BENCH_NODES", "1000"))
WORKERS: Final = int(os.environ.get("TIDEMILL_BENCH_WORKERS", "1000"))


async def measure(made: Release, target: Target, parts: Sequence[str]) -> None:
    """Print the tables of one installation."""
    auth = (target.username, target.password)
    async with (
        open_api(Path(os.environ["KUBECONFIG"]), None) as api,
        httpx.AsyncClient(base_url=target.endpoint, auth=auth, timeout=60) as client,
    ):
        plain = PlainJobs(api, made.workers)
        if "writes" in parts:
            await measure_writes(target, client, plain, WRITES)
        if "latency" in parts:
            warm = await measure_warm(target, client, SAMPLES)
            await measure_cold(target, client, plain, SAMPLES)
            await measure_memory(plain, warm.service)
            await asyncio.to_thread(target.remove, warm.service)
        if "rate" in parts:
            await measure_rate(target, client, plain, EVENTS)


def main() -> int:
    """Install, measure, remove."""
    parts = sys.argv[1:] or PARTS
    if "fleet" in parts:
        asyncio.run(measure_fleet(NODES, WORKERS))
    if {*parts} - {"fleet"}:
        with installed() as (made, target):
            asyncio.run(measure(made, target, parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
