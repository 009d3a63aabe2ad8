"""While files flow through a pipeline of two Services, every process is killed with -9 at random times.

Afterwards every file has exactly its outputs, no output was written twice with different content, no Service ran twice
for the same output of the one before, and the accounts balance.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.once import (
    FIRST,
    SECOND,
    expected,
    is_settled,
    outputs,
    service,
    upload,
    verify_events,
    verify_runs,
)
from tests.embedded import COMPONENTS, SERVERS, Platform, names, running_platform, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

FILES: Final = int(os.environ.get("TIDEMILL_CHAOS_FILES", "500"))
ROUNDS: Final = 3
PAUSES: Final = (0.3, 2.0)
"""Seconds between two kills."""
SEED: Final = int(os.environ.get("TIDEMILL_CHAOS_SEED", "20261121"))
VICTIMS: Final = (*COMPONENTS, *SERVERS, "worker")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with short leases, so that the test need not wait half a minute for each killed Worker."""
    with running_platform(tmp_path_factory.mktemp("chaos"), TIDEMILL_BUS_LEASE="PT5S") as running:
        yield running


async def kill_everything(platform: Platform, *, rounds: int) -> list[str]:
    """kill -9 of every victim in random order, at random times, `rounds` times; returns who was killed."""
    chance, killed = random.Random(SEED), []
    for _ in range(rounds):
        for victim in chance.sample(VICTIMS, len(VICTIMS)):
            await asyncio.sleep(chance.uniform(*PAUSES))
            await asyncio.to_thread(platform.kill, victim)
            killed.append(victim)
    return killed


async def test_every_file_has_its_outputs_once_although_every_process_is_killed(platform: Platform) -> None:
    bucket, wanted = "chaos", list(names(FILES))
    await asyncio.to_thread(platform.apply, service("first", FIRST, f"{bucket}/in", f"{bucket}/mid"))
    await asyncio.to_thread(platform.apply, service("second", SECOND, f"{bucket}/mid", f"{bucket}/out"))
    async with platform.store() as store:
        pause = ROUNDS * len(VICTIMS) * sum(PAUSES) / 2 / len(wanted)  # spread over the time of the kills
        uploads = [asyncio.create_task(upload(store, bucket, wanted[part::4], pause=pause)) for part in range(4)]
        killed = await kill_everything(platform, rounds=ROUNDS)
        await asyncio.gather(*uploads)
        assert set(killed) == set(VICTIMS)
        await asyncio.to_thread(
            wait_until,
            lambda: is_settled(platform, FILES, "first", "second"),
            "all is done",
            timeout=300 + FILES / 5,
            every=1,
        )
        results = await outputs(store, f"{bucket}/out/")
    assert results == expected(wanted)
    await asyncio.to_thread(verify_events, platform, bucket)
    for name in ("first", "second"):
        await asyncio.to_thread(verify_runs, platform, name, FILES)


@pytest.mark.parametrize("path", [Path("connection.json"), Path("secrets/platform.json")])
def test_credentials_stay_private_after_restarts(platform: Platform, path: Path) -> None:
    assert (platform.directory / path).stat().st_mode & 0o077 == 0
