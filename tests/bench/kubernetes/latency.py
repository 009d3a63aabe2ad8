"""From an Event to user code: a warm pod, and a pod for each Event beside plain Jobs of the same image in the same run.

One machine, so wall clocks agree. Samples of all kinds take turns: what else happens on the machine happens to all.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.bench.kubernetes.figures import heading, milliseconds, row
from tests.bench.kubernetes.jobs import CLOCK, PlainJobs, fresh, same_as
from tests.scenarios import Target

SCRIPT: Final = "date +%s%N\n"


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls a Service of a platform."""

    client: httpx.AsyncClient
    service: str
    headers: Mapping[str, str]

    async def seconds_to_code(self) -> float:
        """From before the call to the script's first command."""
        begin = time.time()
        found = await self.ended(await self.call())
        return int(found["log_tail"].split()[0]) / 1e9 - begin

    async def call(self) -> str:
        """Call it without waiting; the Invocation's id."""
        answer = await self.client.post(f"/job/{self.service}", content=b"", headers=self.headers, auth=httpx.Auth())
        answer.raise_for_status()
        return str(answer.headers["Tidemill-Invocation-Id"])

    async def ended(self, invocation: str) -> dict[str, Any]:
        """The Invocation, once it has succeeded."""
        while True:
            found = dict((await self.client.get(f"/v1/invocations/{invocation}")).json())
            if found.get("phase") == "Succeeded":
                return found
            if found.get("phase") in ("Failed", "Cancelled"):
                raise RuntimeError(str(found))
            await asyncio.sleep(0.05)


def caller(target: Target, client: httpx.AsyncClient, name: str, *, script: str = SCRIPT, **fields: Any) -> Caller:
    """A new Service; by default it says when it began."""
    service = fresh(name)
    token = target.apply(service, script, **fields)
    return Caller(client, service, {"Authorization": f"Bearer {token}"})


async def measure_warm(target: Target, client: httpx.AsyncClient, samples: int) -> Caller:
    """Print the figure of a pod that waits."""
    warm = await asyncio.to_thread(
        caller, target, client, "warm", synchronous={"min_scale": 1, "max_scale": 1}, cpu="0.5"
    )
    for _ in range(5):
        await warm.seconds_to_code()
    heading("Event → user code")
    row("warm pod, p50 / p99", milliseconds([await warm.seconds_to_code() for _ in range(samples)]), "<= 15 ms p50")
    return warm


async def measure_cold(target: Target, client: httpx.AsyncClient, plain: PlainJobs, samples: int) -> None:
    """Print the figures of a pod for each Event."""
    single = await asyncio.to_thread(caller, target, client, "single", reuse=1, cpu="0.5")
    await single.seconds_to_code()
    worker = await plain.newest(single.service)
    found: dict[str, list[float]] = {"one": [], "two": [], "event": []}
    for _ in range(samples):
        found["one"].append(await plain.seconds_to_code(same_as(worker, user=CLOCK, supervisor=None)))
        found["two"].append(await plain.seconds_to_code(same_as(worker, user=CLOCK, supervisor="true")))
        found["event"].append(await single.seconds_to_code())
        await plain.ended_pod((await plain.newest(single.service))["metadata"]["name"])
    await asyncio.to_thread(target.remove, single.service)
    row("plain Job of one container, p50 / p99", milliseconds(found["one"]))
    row("plain Job of a Worker's two containers, p50 / p99", milliseconds(found["two"]))
    row("pod for each Event, p50 / p99", milliseconds(found["event"]), "plain Job + 100 / + 300 ms")
    for name, what in (("one", "plain Job of one container"), ("two", "plain Job of two")):
        more = [event - own for event, own in zip(found["event"], found[name], strict=True)]
        row(f"of it more than the {what}, p50", f"{statistics.median(more) * 1e3:+.0f} ms")
