"""Workers started a second on a real API server whose nodes are simulated (KWOK), as the scheduler starts them.

Against the API server's own limit: a plain client that creates the same Jobs, at the concurrency that suits it best.
Makes and removes its fake nodes; they have a taint, so nothing else goes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.kubernetes.figures import heading, row
from tests.kubernetes.kubectl import fresh
from tidemill_common.concurrently import each
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_scheduler.domain.snapshot import Start, StartReason
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object, open_api
from tidemill_scheduler.launchers.kubernetes.launcher import KubernetesLauncher
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import job_of
from tidemill_scheduler.ports import WorkerSpec
from tidemill_scheduler.scheduling import STARTS_AT_ONCE

KUBECONFIG: Final = Path(os.environ.get("KUBECONFIG", ""))
KWOK: Final = Path(__file__).parents[2] / "testbed" / "kubernetes" / "kwok.sh"
CACHE: Final = Path(__file__).parents[3] / ".cache" / "kubernetes"
CONCURRENCIES: Final = (16, 32, 64)
ROUNDS: Final = 2
PLACEMENT: Final = {
    "node_selector": {"type": "kwok"},
    "tolerations": ({"key": "kwok.x-k8s.io/node", "operator": "Exists"},),
}
SERVICE: Final = Service(name=ServiceName("many"), image="localhost/none:1", script="true")


async def measure_fleet(nodes: int, workers: int) -> None:
    """Print what both start in a second; needs a cluster of the testbed, where the fake nodes can be added."""
    if not (KUBECONFIG.parent / "pids").is_dir():
        return
    async with open_api(KUBECONFIG, None) as api:
        plain, launched = 0.0, 0.0
        with _nodes(nodes):
            for _ in range(ROUNDS):
                for concurrency in CONCURRENCIES:
                    plain = max(plain, await _plain_rate(api, workers, concurrency))
                launched = max(launched, await _launched_rate(api, workers))
    heading(f"{workers} Workers on {nodes} simulated nodes")
    row("plain client, best of its concurrencies", f"{plain:.0f} Jobs/s")
    row("launcher", f"{launched:.0f} Workers/s = {launched / plain:.2f} of it", ">= 0.9")


async def _plain_rate(api: KubernetesApi, workers: int, concurrency: int) -> float:
    async with _namespace(api) as settings:
        jobs = iter([job_of(spec, SERVICE, settings, environment={}) for spec in _specs(workers)])
        path = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"

        async def create() -> None:
            for job in jobs:
                await api.create(path, job)

        return await _rate(workers, lambda: _gather(create() for _ in range(concurrency)))


async def _launched_rate(api: KubernetesApi, workers: int) -> float:
    async def drain(worker: WorkerSpec) -> None:
        """Nobody is asked."""

    async with _namespace(api) as settings, contextlib.AsyncExitStack() as stack:
        launcher = KubernetesLauncher(
            settings, api=open_api(KUBECONFIG, None), environment={}, credentials=None, drain=drain
        )
        stack.push_async_callback(launcher.close)
        await launcher.adopt()
        specs = iter(_specs(workers))
        starts = [Start(SERVICE.name, "kubernetes", StartReason.BACKLOG)] * workers
        rate = await _rate(
            workers, lambda: each(starts, lambda _: launcher.start(next(specs), SERVICE), concurrency=STARTS_AT_ONCE)
        )
        assert len(launcher.workers()) <= workers
        return rate


async def _rate(count: int, work: Callable[[], Awaitable[Any]]) -> float:
    begin = time.perf_counter()
    await work()
    return count / (time.perf_counter() - begin)


async def _gather(works: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*works)


def _specs(count: int) -> list[WorkerSpec]:
    return [
        WorkerSpec(
            id=WorkerId(f"{SERVICE.name}-{secrets.token_hex(4)}"),
            service=SERVICE.name,
            owner="bench",
            pool="kubernetes",
            revision=1,
            slots=1,
            cpu_millicores=200,
            memory_bytes=64 * 2**20,
        )
        for _ in range(count)
    ]


@contextlib.asynccontextmanager
async def _namespace(api: KubernetesApi) -> AsyncIterator[KubernetesSettings]:
    """A namespace of its own with what Workers mount; gone, with its pods, before the next begins."""
    name = fresh("bench")
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield KubernetesSettings.model_validate({"namespace": name, "placement": PLACEMENT})
    finally:
        await api.delete(f"/api/v1/namespaces/{name}", propagationPolicy="Background")
        while any(found["metadata"]["name"] == name for found in await _namespaces(api)):
            await asyncio.sleep(1)


async def _namespaces(api: KubernetesApi) -> list[Object]:
    return list((await api.get("/api/v1/namespaces"))["items"])


@contextlib.contextmanager
def _nodes(count: int) -> Iterator[None]:
    """Fake nodes, removed again with what plays them."""
    state = KUBECONFIG.parent
    subprocess.run([str(KWOK), str(state), str(CACHE), str(count)], check=True)
    try:
        yield
    finally:
        subprocess.run(
            ["kubectl", "delete", "node", "-l", "type=kwok", "--wait=false"], check=True, capture_output=True
        )
        _stop(state / "pids" / "kwok")


def _stop(record: Path) -> None:
    """The process that `kwok.sh` started: its pid and start time are in this file."""
    with contextlib.suppress(OSError):
        pid, started = record.read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[19] == started:
            os.kill(int(pid), 15)
    record.unlink(missing_ok=True)
