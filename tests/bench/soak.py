"""Memory over time under steady load: `make soak MINUTES=20 RATE=40`. Resident MB of each role, once a minute.

Two Services: no-ops by `POST /job`, and uploads of 64 KiB that are copied to another folder. Retention is set short
(a tenth of the run), so that what is bounded by age has reached its bound.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.bench.bench_chain import memory, warm
from tests.embedded import Platform, running_platform

UPLOAD_EVERY = 4
"""One upload for so many no-ops."""


async def load(platform: Platform, token: str, rate: float, until: float) -> int:
    """Send at a steady rate; returns how many were sent."""
    sent, begin = 0, time.monotonic()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=platform.connection["endpoint"], timeout=60) as client,
        platform.store() as s3,
    ):
        while (now := time.monotonic()) < until:
            if sent > (now - begin) * rate:
                await asyncio.sleep(0.01)
            elif sent % UPLOAD_EVERY == 0:
                await s3.put(f"soak/in/{sent}", b"." * 65536)
                sent += 1
            else:
                (await client.post("/job/noop", headers=headers)).raise_for_status()
                sent += 1
    return sent


async def watch(platform: Platform, until: float) -> None:
    """One row a minute."""
    roles = sorted(memory(platform))
    print("| minute | " + " | ".join(roles) + " | sum |", flush=True)
    print("|---" * (len(roles) + 2) + "|", flush=True)
    begin = time.monotonic()
    while time.monotonic() < until + 61:
        found = memory(platform)
        cells = [f"{found.get(role, 0):.0f}" for role in roles]
        minute = (time.monotonic() - begin) / 60
        print(f"| {minute:.0f} | " + " | ".join(cells) + f" | {sum(found.values()):.0f} |", flush=True)
        await asyncio.sleep(60)


async def measure(platform: Platform, minutes: float, rate: float) -> None:
    """Load and watch."""
    folders = {
        "input": [{"storage_provider": "minio.default", "path": "soak/in"}],
        "output": [{"storage_provider": "minio.default", "path": "soak/out"}],
    }
    token = await asyncio.to_thread(warm, platform, "noop", "exit 0\n", scale=1, slots=2)
    copy = '[ -z "$INPUT_FILE_PATH" ] || cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"\n'
    await asyncio.to_thread(warm, platform, "copy", copy, scale=1, slots=2, **folders)
    until = time.monotonic() + minutes * 60
    watching = asyncio.create_task(watch(platform, until))
    sent = await load(platform, token, rate, until)
    await watching
    accounts = {name: platform.accounts(name) for name in ("noop", "copy")}
    print(f"\n{sent} sent; accounts: {accounts}")


def main() -> int:
    """Start a platform with short retention, load it, stop it."""
    minutes, rate = float(os.environ.get("MINUTES", "20")), float(os.environ.get("RATE", "40"))
    age = f"PT{max(30, minutes * 60 / 10):.0f}S"
    bounds = {
        f"TIDEMILL_BUS_{name}": age
        for name in ("DUPLICATE_WINDOW", "EVENTS_MAX_AGE", "LIFECYCLE_MAX_AGE", "LOGS_MAX_AGE")
    }
    with tempfile.TemporaryDirectory() as scratch, running_platform(Path(scratch), **bounds) as platform:
        asyncio.run(measure(platform, minutes, rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
