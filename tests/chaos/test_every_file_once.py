"""While files flow through a pipeline of two Services, every process is killed with -9 at random times.

Afterwards every file has exactly its outputs, no output was written twice with different content, no Service ran twice
for the same output of the one before, and the accounts balance.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.embedded import COMPONENTS, SERVERS, Platform, names, running_platform, wait_until
from tidemill_common.errors import TidemillError
from tidemill_common.storage import ObjectStore

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

FILES: Final = int(os.environ.get("TIDEMILL_CHAOS_FILES", "500"))
ROUNDS: Final = 3
PAUSES: Final = (0.3, 2.0)
"""Seconds between two kills."""
SEED: Final = int(os.environ.get("TIDEMILL_CHAOS_SEED", "20261121"))
VICTIMS: Final = (*COMPONENTS, *SERVERS, "worker")

FIRST: Final = """#!/bin/sh
set -e
name=$(basename "$INPUT_FILE_PATH")
sha256sum < "$INPUT_FILE_PATH" | cut -d' ' -f1 > "$TMP_OUTPUT_DIR/$name"
"""
SECOND: Final = """#!/bin/sh
set -e
name=$(basename "$INPUT_FILE_PATH")
{ printf 'digest '; cat "$INPUT_FILE_PATH"; } > "$TMP_OUTPUT_DIR/$name"
"""


def service(name: str, script: str, source: str, target: str) -> dict[str, Any]:
    """One stage of the pipeline."""
    return {
        "name": name,
        "script": script,
        "cpu": "0.3",
        "memory": "64Mi",
        "input": [{"storage_provider": "minio.default", "path": source}],
        "output": [{"storage_provider": "minio.default", "path": target}],
        "slots": 2,
        "synchronous": {"max_scale": 2},
        "retry": {"attempts": 10, "backoff": "1s", "max_backoff": "5s"},
    }


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with short leases, so that the test need not wait half a minute for each killed Worker."""
    with running_platform(tmp_path_factory.mktemp("chaos"), TIDEMILL_BUS_LEASE="PT5S") as running:
        yield running


async def upload(store: ObjectStore, bucket: str, wanted: list[str]) -> None:
    """Upload each file once, spread over the time of the kills.

    While the store is down, look whether the object has arrived before sending it again.
    """
    pace = ROUNDS * len(VICTIMS) * sum(PAUSES) / 2 / len(wanted)
    for name in wanted:
        path, body = f"{bucket}/in/{name}", content(name)
        while True:
            try:
                if await store.head(path) is None:
                    await store.put(path, body)
                break
            except TidemillError:
                await asyncio.sleep(0.2)
        await asyncio.sleep(pace)


def content(name: str) -> bytes:
    """What is in a file."""
    return f"content of {name}\n".encode() * 20


async def kill_everything(platform: Platform, *, rounds: int) -> list[str]:
    """kill -9 of every victim in random order, at random times, `rounds` times; returns who was killed."""
    chance, killed = random.Random(SEED), []
    for _ in range(rounds):
        for victim in chance.sample(VICTIMS, len(VICTIMS)):
            await asyncio.sleep(chance.uniform(*PAUSES))
            await asyncio.to_thread(platform.kill, victim)
            killed.append(victim)
    return killed


def settled(platform: Platform, *services: str) -> bool:
    """Whether nothing waits or runs and each Service was asked for every file."""
    for name in services:
        accounts = platform.accounts(name)
        if not accounts or accounts["requested"] < FILES or accounts["pending"] or accounts["running"]:
            return False
    return True


async def outputs(store: ObjectStore, prefix: str) -> dict[str, bytes]:
    """Name → content below a prefix."""
    found = [info.path async for info in store.list(prefix) if not info.path.endswith("/")]
    return {path.removeprefix(prefix): await store.get(path) for path in found}


def verify_events(platform: Platform, bucket: str) -> None:
    """No output was stored with two contents, according to the log of all that arrived."""
    etags: dict[str, set[str]] = defaultdict(set)
    start: int | None = 1
    while start:
        page = platform.patiently("GET", f"/v1/events?bucket={bucket}&limit=500&start={start}").json()
        for event in page["items"]:
            artifact = event.get("artifact")
            if artifact and "removed" not in event["type"] and artifact.get("etag"):
                etags[artifact["path"]].add(artifact["etag"])
        start = page["next"]
    assert etags, "the log of Events is empty"
    assert {path: found for path, found in etags.items() if len(found) > 1} == {}


def verify_runs(platform: Platform, name: str) -> None:
    """The Service ran once for each input, and the accounts balance."""
    rows = platform.invocations(name)
    runs = Counter(row["input"]["path"] for row in rows)
    assert {path: count for path, count in runs.items() if count > 1} == {}
    assert Counter(row["phase"] for row in rows) == {"Succeeded": FILES}
    accounts = platform.accounts(name)
    assert accounts["balanced"] is True, accounts
    assert accounts["requested"] == accounts["succeeded"] == FILES, accounts


async def test_every_file_has_its_outputs_once_although_every_process_is_killed(platform: Platform) -> None:
    bucket, wanted = "chaos", list(names(FILES))
    await asyncio.to_thread(platform.apply, service("first", FIRST, f"{bucket}/in", f"{bucket}/mid"))
    await asyncio.to_thread(platform.apply, service("second", SECOND, f"{bucket}/mid", f"{bucket}/out"))
    async with platform.store() as store:
        uploads = [asyncio.create_task(upload(store, bucket, wanted[part::4])) for part in range(4)]
        killed = await kill_everything(platform, rounds=ROUNDS)
        await asyncio.gather(*uploads)
        assert set(killed) == set(VICTIMS)
        await asyncio.to_thread(
            wait_until, lambda: settled(platform, "first", "second"), "all is done", timeout=300 + FILES / 5, every=1
        )
        results = await outputs(store, f"{bucket}/out/")
    expected = {name: b"digest %s\n" % hashlib.sha256(content(name)).hexdigest().encode() for name in wanted}
    assert results == expected
    await asyncio.to_thread(verify_events, platform, bucket)
    for name in ("first", "second"):
        await asyncio.to_thread(verify_runs, platform, name)


@pytest.mark.parametrize("path", [Path("connection.json"), Path("secrets/platform.json")])
def test_credentials_stay_private_after_restarts(platform: Platform, path: Path) -> None:
    assert (platform.directory / path).stat().st_mode & 0o077 == 0
