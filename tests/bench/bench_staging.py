"""Stage in and stage out, MB/s and objects/s, against rclone on the same SeaweedFS, turn and turn about. Budget: 1.0.

Run: `python -m tests.bench.bench_staging [megabytes] [objects] [rounds]`; by default one object of 1000 MB,
1000 of 16 KiB, 5 rounds.
rclone gets the same concurrency and piece sizes, no checks that we do not make, and its start-up time given back.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tests.servers import seaweed_server
from tidemill.platform.servers import SeaweedServer
from tidemill_common.concurrently import each
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_buckets, open_store
from tidemill_common.storage.s3.transfers import CONCURRENCY, PART_BYTES

BUDGET: Final = 1.0
SMALL_BYTES: Final = 16 * 1024
AT_A_TIME: Final = 16
"""Small objects on their way at once, for both."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is moved, from and to where."""

    folder: Path
    megabytes: int
    objects: int

    @property
    def large(self) -> Path:
        """One large file."""
        return self.folder / "large"

    @property
    def small(self) -> Path:
        """A folder of small files."""
        return self.folder / "small"

    @property
    def back(self) -> Path:
        """Where things come down to."""
        return self.folder / "back"

    def write(self) -> None:
        """Make the files."""
        block = os.urandom(1_000_000)
        with self.large.open("wb") as file:
            for number in range(self.megabytes):
                file.write(number.to_bytes(8, "big") + block[8:])
        self.small.mkdir()
        for number in range(self.objects):
            (self.small / f"{number:06}").write_bytes(number.to_bytes(8, "big") + block[8:SMALL_BYTES])

    def clear(self) -> None:
        """Forget what came down."""
        shutil.rmtree(self.back, ignore_errors=True)
        self.back.mkdir()


class Ours:
    """Our own adapter."""

    def __init__(self, store: ObjectStore, load: Load) -> None:
        self._store = store
        self._load = load

    async def large_out(self) -> None:
        """Upload the large file."""
        await self._store.upload(self._load.large, "data/ours/large")

    async def large_in(self) -> None:
        """Download it."""
        await self._store.download("data/ours/large", self._load.back / "large")

    async def small_out(self) -> None:
        """Upload the small files."""

        async def upload(number: int) -> None:
            await self._store.upload(self._load.small / f"{number:06}", f"data/ours/small/{number:06}")

        await each(range(self._load.objects), upload, concurrency=AT_A_TIME)

    async def small_in(self) -> None:
        """Download them."""

        async def download(number: int) -> None:
            await self._store.download(f"data/ours/small/{number:06}", self._load.back / f"{number:06}")

        await each(range(self._load.objects), download, concurrency=AT_A_TIME)


class Rclone:
    """rclone with the same concurrency and sizes, and nothing to check."""

    def __init__(self, endpoint: str, load: Load) -> None:
        self._load = load
        plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = plain | {
            "RCLONE_CONFIG_X_TYPE": "s3",
            "RCLONE_CONFIG_X_PROVIDER": "Other",
            "RCLONE_CONFIG_X_ENDPOINT": endpoint,
            "RCLONE_CONFIG_X_ACCESS_KEY_ID": "testkey",
            "RCLONE_CONFIG_X_SECRET_ACCESS_KEY": "testsecret",
        }
        self._options = (
            *(f"--transfers={AT_A_TIME}", f"--s3-upload-concurrency={CONCURRENCY}", f"--s3-chunk-size={PART_BYTES}B"),
            *(f"--multi-thread-streams={CONCURRENCY}", "--config=/dev/null", "--no-check-dest", "--s3-no-check-bucket"),
            *("--s3-no-head", "--s3-disable-checksum", "--ignore-checksum", "--no-traverse"),
        )

    async def large_out(self) -> None:
        """Upload the large file."""
        await self._run("copyto", str(self._load.large), "x:data/rclone/large")

    async def large_in(self) -> None:
        """Download it."""
        await self._run("copyto", "x:data/rclone/large", str(self._load.back / "large"))

    async def small_out(self) -> None:
        """Upload the small files."""
        await self._run("copy", str(self._load.small), "x:data/rclone/small")

    async def small_in(self) -> None:
        """Download them."""
        await self._run("copy", "x:data/rclone/small", str(self._load.back))

    async def start_up(self) -> float:
        """Seconds that it takes to do nothing."""
        begin = time.perf_counter()
        await self._run("version")
        return time.perf_counter() - begin

    async def _run(self, *arguments: str) -> None:
        command = ("rclone", *arguments, *self._options)
        process = await asyncio.create_subprocess_exec(
            *command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(errors.decode())


async def seconds(work: Callable[[], Awaitable[None]], less: float = 0.0) -> float:
    """How long it took."""
    begin = time.perf_counter()
    await work()
    return max(time.perf_counter() - begin - less, 1e-6)


async def compare(ours: Ours, peer: Rclone | None, load: Load, rounds: int) -> dict[str, tuple[float, float]]:
    """The median seconds of each step, ours and rclone's; NaN without a peer."""
    steps = ("large_out", "large_in", "small_out", "small_in")
    taken: dict[str, tuple[list[float], list[float]]] = {step: ([], []) for step in steps}
    for turn in range(rounds):
        for step in steps:
            parties = [(ours, 0, 0.0)] + ([(peer, 1, await peer.start_up())] if peer else [])
            for party, column, less in parties if turn % 2 else reversed(parties):
                load.clear()
                taken[step][column].append(await seconds(getattr(party, step), less))
    return {
        step: (statistics.median(mine), statistics.median(theirs) if theirs else float("nan"))
        for step, (mine, theirs) in taken.items()
    }


def report(figures: dict[str, tuple[float, float]], load: Load) -> bool:
    """Print the table; True: every ratio is within the budget."""
    print(f"{'step':<12}{'tidemill':>16}{'rclone':>16}{'ratio':>8}")
    good = True
    for step, (mine, theirs) in figures.items():
        amount, unit = (load.megabytes, "MB/s") if step.startswith("large") else (load.objects, "obj/s")
        ratio = theirs / mine
        good = good and not ratio < BUDGET
        print(f"{step:<12}{amount / mine:>10.0f} {unit:<5}{amount / theirs:>10.0f} {unit:<5}{ratio:>8.2f}")
    return good


async def main(megabytes: int, objects: int, rounds: int) -> bool:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as scratch, seaweed_server(Path(scratch)) as running:
        assert isinstance(running.server, SeaweedServer)
        load = Load(folder=Path(scratch), megabytes=megabytes, objects=objects)
        load.write()
        credentials = S3Credentials(endpoint=running.server.endpoint, access_key="testkey", secret_key="testsecret")
        peer = Rclone(running.server.endpoint, load) if shutil.which("rclone") else None
        async with open_buckets(credentials) as buckets, open_store("minio.x", credentials.model_dump()) as store:
            await buckets.create_bucket("data")
            return report(await compare(Ours(store, load), peer, load, rounds), load)


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]]
    within = uvloop.run(main(*(sizes + [1000, 1000, 5][len(sizes) :])))
    sys.exit(0 if within else 1)
