"""`GET /system/status` (OSCAR contract 1.11) from what this machine and the platform tell; all cores are millicores.

A cluster's own monitoring knows its nodes; here the one node is the machine that the gateway runs on.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Response

from tidemill_common.contracts.invocation import Phase
from tidemill_gateway.catalogue import Buckets
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.routes.oscar.answers import OscarRoute, document
from tidemill_gateway.routes.oscar.jobs import instant

_MEMINFO: Final = Path("/proc/meminfo")
_STATES: Final[Mapping[Phase, str]] = {Phase.CANCELLED: "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine has, and what of it is in use."""

    name: str
    millicores: int
    busy_millicores: int
    memory_bytes: int
    used_bytes: int

    @property
    def free_millicores(self) -> int:
        """What nobody uses."""
        return max(self.millicores - self.busy_millicores, 0)

    @property
    def free_bytes(self) -> int:
        """What nobody uses."""
        return max(self.memory_bytes - self.used_bytes, 0)


def this_machine(meminfo: Path = _MEMINFO) -> Machine:
    """The machine that we run on; its load over the last minute counts as use."""
    total, available = _memory(meminfo)
    millicores = (os.cpu_count() or 1) * 1000
    return Machine(
        name=platform.node(),
        millicores=millicores,
        busy_millicores=min(round(os.getloadavg()[0] * 1000), millicores),
        memory_bytes=total,
        used_bytes=total - available,
    )


def _memory(meminfo: Path) -> tuple[int, int]:
    """Total and available bytes."""
    try:
        lines = meminfo.read_text().splitlines()
    except FileNotFoundError:  # another system than Linux
        return 0, 0
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
    return values.get("MemTotal", 0), values.get("MemAvailable", 0)


class StatusRoutes:
    """One document."""

    def __init__(self, *, buckets: Buckets, invocations: InvocationQueries, started: datetime) -> None:
        self._buckets = buckets
        self._invocations = invocations
        self._started = started

    def router(self) -> APIRouter:
        """The route."""
        routes = APIRouter(route_class=OscarRoute)
        routes.add_api_route("/system/status", self.status, methods=["GET"], summary="Capacity and counts")
        return routes

    async def status(self) -> Response:
        """The whole of it."""
        machine = await asyncio.to_thread(this_machine)
        return document(
            {
                "cluster": cluster_json(machine),
                "oscar": await self._oscar(),
                "minio": await self._store(),
            }
        )

    async def _oscar(self) -> dict[str, Any]:
        states: dict[str, int] = {}
        for phases in (await self._invocations.phases()).values():
            for phase, number in phases.items():
                state = _STATES.get(phase, phase.value)
                states[state] = states.get(state, 0) + number
        total = sum(states.values())
        return {
            "deployment_name": "oscar",
            "ready": True,
            "deployment": {
                "available_replicas": 1,
                "ready_replicas": 1,
                "replicas": 1,
                "creation_timestamp": instant(self._started),
                "strategy": "RollingUpdate",
                "labels": {},
            },
            "jobs_count": total,
            "pods": {"total": total, "states": states},
            "oidc": {"enabled": False, "issuers": [], "groups": []},
        }

    async def _store(self) -> dict[str, int]:
        buckets = await self._buckets.all()
        usages = [await self._buckets.usage(bucket.name) for bucket in buckets]
        return {"buckets_count": len(buckets), "total_objects": sum(usage.objects for usage in usages)}


def cluster_json(machine: Machine) -> dict[str, Any]:
    """A cluster of one node."""
    cores, memory = machine.free_millicores, machine.free_bytes
    return {
        "nodes_count": 1,
        "metrics": {
            "cpu": {
                "total_free_cores": cores,
                "max_free_on_node_cores": cores,
                "total_schedulable_cores": cores,
                "total_schedulable_on_node_cores": cores,
            },
            "memory": {
                "total_free_bytes": memory,
                "max_free_on_node_bytes": memory,
                "total_schedulable_bytes": memory,
                "max_schedulable_on_node_bytes": memory,
            },
            "gpu": {"total_gpu": 0},
        },
        "nodes": [_node_json(machine)],
    }


def _node_json(machine: Machine) -> dict[str, Any]:
    used_cores, used_bytes = machine.busy_millicores, machine.used_bytes
    return {
        "name": machine.name,
        "cpu": {"capacity_cores": machine.millicores, "usage_cores": used_cores, "request_cores": used_cores},
        "memory": {"capacity_bytes": machine.memory_bytes, "usage_bytes": used_bytes, "request_bytes": used_bytes},
        "gpu": 0,
        "is_interlink": False,
        "status": "Ready",
        "conditions": [{"type": "Ready", "status": True}],
    }
