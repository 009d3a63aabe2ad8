"""A Worker's start: from `exec` to its first lease, also after many cancellations; and its memory idle.

The user's container is a stand-in that answers at once, so this is the supervisor's own part of the start of a pod.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.servers import nats_server
from tidemill.platform.servers import NatsServer
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import InvocationId, ServiceName, WorkerId, derive_id
from tidemill_common.contracts.invocation import Change, InvocationChanged, changed_subject
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined
from tidemill_common.runner import ANSWERS, FOLDER
from tidemill_common.secrets import PLATFORM, FileSecretStore, SecretRecord
from tidemill_common.settings import BusSettings

NAME = ServiceName("idle")
STARTS = 15
CANCELLED = 20_000
FORGOTTEN_SECONDS = 35
"""A Worker reads the last half minute when it starts."""
READY = b"worker ready"


class StartedWorker:
    """A Worker with a runner that is a file."""

    def __init__(self, directory: Path, url: str, number: int) -> None:
        self._log = directory / f"{number}.log"
        self._directory = directory / "work" / f"w{number}"
        settings = {
            "SERVICE": NAME,
            "WORKER_ID": f"w{number}",
            "WORKSPACE_DIR": str(directory / "work"),
            "SECRETS_DIR": str(directory / "secrets"),
            "BUS__URL": url,
            "RUNNER": "container",
        }
        with self._log.open("wb") as output:
            self.begun = time.perf_counter()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidemill_supervisor"],
                env={"PATH": os.defpath, **{f"TIDEMILL_SUPERVISOR_{key}": value for key, value in settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def until_ready(self) -> tuple[float, float]:
        """(seconds since `exec`, seconds of them on a core)."""
        answers = self._directory / FOLDER / ANSWERS
        while not answers.exists():
            time.sleep(0.001)
        runner = os.open(answers, os.O_WRONLY)
        os.write(runner, b"ready 1 0\n")
        while READY not in self._log.read_bytes():
            if self.process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.001)
        self._runner = runner
        return time.perf_counter() - self.begun, self._cpu_seconds()

    def memory_mib(self, what: str) -> float:
        """Its `Rss` or `Pss`."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024

    def stop(self) -> None:
        """Let it end."""
        self.process.terminate()
        self.process.wait()
        os.close(self._runner)

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(name: str, value: str, goal: str = "") -> None:
    """One line of the table."""
    print(f"| {name} | {value} | {goal} |", flush=True)


def starts(directory: Path, url: str, first: int, times: int) -> tuple[float, float, StartedWorker]:
    """Medians in milliseconds, elapsed and on a core, and the last Worker, still there."""
    found = []
    for number in range(first, first + times):
        worker = StartedWorker(directory, url, number)
        found.append(worker.until_ready())
        if number < first + times - 1:
            worker.stop()
    elapsed, cores = zip(*found, strict=True)
    return statistics.median(elapsed) * 1e3, statistics.median(cores) * 1e3, worker


def bare_python() -> float:
    """Milliseconds."""
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


async def cancel_many(bus: Bus) -> None:
    """Fill the log with cancellations, and let some time pass."""
    at = datetime.now(UTC)
    subject, room = changed_subject(Change.CANCELLED), asyncio.Semaphore(64)

    async def cancel(number: int) -> None:
        record = InvocationChanged(
            invocation_id=InvocationId(derive_id("cancelled", str(number))),
            service=NAME,
            change=Change.CANCELLED,
            at=at,
            worker=WorkerId("w"),
        )
        async with room:
            await bus.log.append(subject, record, key=NAME)

    await asyncio.gather(*(cancel(number) for number in range(CANCELLED)))
    await asyncio.sleep(FORGOTTEN_SECONDS)


async def prepare(directory: Path, bus: Bus) -> None:
    """What the other components would have done."""
    await bus.streams.apply(await bus.streams.plan())
    service = Service.model_validate({"name": NAME, "image": "none", "script": "true"})
    defined = ServiceDefined(name=NAME, revision=1, at=datetime.now(UTC), service=service)
    await bus.log.append(DEFINED, defined, key=NAME)
    await FileSecretStore(directory / "secrets").put(PLATFORM, SecretRecord())


async def measure(directory: Path, url: str) -> None:
    """Print the table."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(BusSettings(url=url), name="bench"))
        await prepare(directory, bus)
        print("| figure | measured | to reach |\n|---|---|---|")
        row("a bare Python with asyncio, start to end, p50", f"{await asyncio.to_thread(bare_python):.0f} ms")
        elapsed, core, worker = await asyncio.to_thread(starts, directory, url, 0, STARTS)
        row("exec → leases, p50", f"{elapsed:.0f} ms", "part of the node's time + 100 ms")
        row("the same, on a core", f"{core:.0f} ms")
        await asyncio.sleep(3)
        row("memory idle, RSS", f"{worker.memory_mib('Rss'):.1f} MiB", "<= 60 MB")
        row("memory idle, PSS", f"{worker.memory_mib('Pss'):.1f} MiB")
        worker.stop()
        await cancel_many(bus)
        elapsed, core, worker = await asyncio.to_thread(starts, directory, url, STARTS, 5)
        row(f"exec → leases after {CANCELLED:,} cancellations, p50", f"{elapsed:.0f} ms", "as without")
        worker.stop()


def main() -> int:
    """Start a bus, measure, stop it."""
    with tempfile.TemporaryDirectory() as scratch, nats_server(Path(scratch)) as running:
        assert isinstance(running.server, NatsServer)
        asyncio.run(measure(Path(scratch), running.server.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
