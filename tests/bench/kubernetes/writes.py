"""Writes of the API an Event, from the API server's own counters.

The counters do not say who wrote; nobody but the scheduler has reason to write the objects that it may write while
Services only run, so its share is what it has rights for, and the rest is Kubernetes' own. Needs a cluster at rest.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Final

import httpx

from tests.bench.kubernetes.figures import heading, row
from tests.bench.kubernetes.jobs import PlainJobs
from tests.bench.kubernetes.latency import caller
from tests.kubernetes.kubectl import Cluster
from tests.scenarios import Target

_LINE: Final = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_SCHEDULERS: Final = frozenset(
    {"secrets", "jobs", "daemonsets", "deployments", "configmaps", "services", "horizontalpodautoscalers", "ingresses"}
)
_NOT_OF_EVENTS: Final = frozenset({"leases", "tokenreviews", "subjectaccessreviews", "serviceaccounts"})


async def measure_writes(
    cluster: Cluster, target: Target, client: httpx.AsyncClient, plain: PlainJobs, events: int
) -> None:
    """Print the writes an Event, with warm Workers and with a pod for each."""
    warm = await asyncio.to_thread(caller, target, client, "kept", synchronous={"min_scale": 1, "max_scale": 1})
    each = await asyncio.to_thread(caller, target, client, "alone", reuse=1)
    for one in (warm, each):
        await one.ended(await one.call())
    heading("API writes an Event")
    for name, one, goal in (("warm Worker", warm, "0"), ("pod for each Event", each, "1 create")):
        await asyncio.sleep(5)
        before = writes(cluster)
        for _ in range(events):
            await one.ended(await one.call())
        if one is each:
            await plain.completed(f"tidemill.io/service={one.service}", events + 1)
        found = writes(cluster) - before
        row(f"{name}, by the scheduler", _told(found, events, by_scheduler=True), goal)
        row(f"{name}, by Kubernetes itself", _told(found, events, by_scheduler=False))
        await asyncio.to_thread(target.remove, one.service)


def writes(cluster: Cluster) -> Counter[str]:
    """Writes so far by `VERB resource/subresource`."""
    found: Counter[str] = Counter()
    for labels, value in _LINE.findall(cluster.run("get", "--raw", "/metrics").stdout):
        named = dict(_LABEL.findall(labels))
        if named["verb"] in _WRITES and named["resource"] not in _NOT_OF_EVENTS:
            subresource = f"/{named['subresource']}" if named["subresource"] else ""
            found[f"{named['verb']} {named['resource']}{subresource}"] += int(float(value))
    return found


def _told(found: Counter[str], events: int, *, by_scheduler: bool) -> str:
    chosen = {what: times for what, times in found.items() if (what.split()[1] in _SCHEDULERS) is by_scheduler}
    told = [f"{times / events:.2g} {what}" for what, times in sorted(chosen.items()) if times / events >= 0.05]
    return ", ".join(told) or "0"
