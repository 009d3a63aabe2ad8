"""Memory of an idle supervisor's container, as its node counts it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.bench.kubernetes.figures import heading, row
from tests.bench.kubernetes.jobs import PlainJobs

_KINDS: Final = {"workingSetBytes": "working set", "rssBytes": "RSS", "usageBytes": "all that the cgroup holds"}


async def measure_memory(plain: PlainJobs, service: str) -> None:
    """Print that of a Worker of this Service, which waits for work."""
    pods = (await plain.api.get(plain.pods, labelSelector=f"tidemill.io/service={service}"))["items"]
    pod = next(found for found in pods if found["status"]["phase"] == "Running")
    await asyncio.sleep(25)  # the node looks every ten seconds
    summary = await plain.api.get(f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/stats/summary")
    memory = _of(summary, pod["metadata"]["name"])
    heading("Memory of an idle supervisor's container")
    for field, name in _KINDS.items():
        row(name, f"{memory[field] / 1e6:.0f} MB", "<= 60 MB" if field == "workingSetBytes" else "")


def _of(summary: dict[str, Any], pod: str) -> dict[str, int]:
    containers = next(found["containers"] for found in summary["pods"] if found["podRef"]["name"] == pod)
    return dict(next(found["memory"] for found in containers if found["name"] == "supervisor"))
