"""Writes of the API an Event, counted in the Workers' namespace by what each object says of who wrote it.

The watched kinds are all that the scheduler has rights to write there, but for the deletion of pods.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import httpx

from tests.bench.kubernetes.figures import heading, row
from tests.bench.kubernetes.jobs import PlainJobs
from tests.bench.kubernetes.latency import caller
from tests.scenarios import Target
from tidemill_scheduler.launchers.kubernetes.api import Object

SCHEDULER: Final = "tidemill-scheduler"
"""Name of its client, which the API server notes as the manager of what it writes."""
_KINDS: Final = {
    "secrets": "/api/v1",
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "jobs": "/apis/batch/v1",
    "daemonsets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "ingresses": "/apis/networking.k8s.io/v1",
}
_SILENCE: Final = timedelta(minutes=10)


async def measure_writes(target: Target, client: httpx.AsyncClient, plain: PlainJobs, events: int) -> None:
    """Print the writes an Event, with warm Workers and with a pod for each."""
    warm = await asyncio.to_thread(caller, target, client, "kept", synchronous={"min_scale": 1, "max_scale": 1})
    each = await asyncio.to_thread(caller, target, client, "alone", reuse=1)
    for one in (warm, each):
        await one.ended(await one.call())
    heading("API writes an Event, by the scheduler")
    for name, one, goal in (("warm Worker", warm, "0"), ("pod for each Event", each, "1 create")):
        await asyncio.sleep(5)
        async with _counted(plain, one.service) as found:
            for _ in range(events):
                await one.ended(await one.call())
            await asyncio.sleep(5)
        told = [f"{times / events:.2g} {what}" for what, times in sorted(found.items())]
        row(name, ", ".join(told) or "0", goal)
        await asyncio.to_thread(target.remove, one.service)


@contextlib.asynccontextmanager
async def _counted(plain: PlainJobs, service: str) -> AsyncIterator[Counter[str]]:
    """The scheduler's writes for a Service meanwhile, as `verb kind`."""
    found: Counter[str] = Counter()
    chosen = {"labelSelector": f"tidemill.io/service={service}"}
    async with asyncio.TaskGroup() as group:
        tasks = []
        for kind, where in _KINDS.items():
            path = f"{where}/namespaces/{plain.namespace}/{kind}"
            listed = await plain.api.get(path, **chosen)
            watch = plain.api.watch(
                path, silence=_SILENCE, resourceVersion=listed["metadata"]["resourceVersion"], **chosen
            )
            tasks.append(group.create_task(_follow(watch, kind, listed, found)))
        yield found
        for task in tasks:
            task.cancel()


async def _follow(watch: AsyncIterator[Object], kind: str, listed: Object, found: Counter[str]) -> None:
    known = {item["metadata"]["uid"]: _entries(item) for item in listed["items"]}
    async for event in watch:
        item = event["object"]
        before, now = known.get(item["metadata"]["uid"]), _entries(item)
        known[item["metadata"]["uid"]] = now
        if event["type"] == "DELETED":
            found[f"delete {kind}"] += 1
        elif now and before is None:
            found[f"create {kind}"] += 1
        elif now != before:
            found[f"update {kind}"] += 1


def _entries(item: Object) -> list[dict[str, Any]]:
    """What the scheduler wrote of an object, and when."""
    return [entry for entry in item["metadata"].get("managedFields", ()) if entry["manager"] == SCHEDULER]
