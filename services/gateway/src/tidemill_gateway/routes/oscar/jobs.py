"""Invocations as OSCAR's jobs: names, statuses and times. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from tidemill_common.contracts.invocation import Phase
from tidemill_gateway.access_log import Access
from tidemill_gateway.domain.fold import InvocationRow

_STATUSES: Final[Mapping[Phase, str]] = {
    Phase.PENDING: "Pending",
    Phase.RUNNING: "Running",
    Phase.SUCCEEDED: "Succeeded",
    Phase.FAILED: "Failed",
    Phase.CANCELLED: "Failed",
}


def job_json(row: InvocationRow) -> dict[str, str]:
    """One value of the `jobs` map: a pod's phase and times; unknown times are left out."""
    times = {"creation_time": row.requested_at, "start_time": row.started_at, "finish_time": row.finished_at}
    shown = {"status": _STATUSES[row.phase]}
    return shown | {name: instant(at) for name, at in times.items() if at is not None}


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def fine_instant(at: datetime) -> str:
    """RFC 3339 in UTC with a fraction, as container logs have it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def access_json(access: Access) -> dict[str, object]:
    """One entry of `GET /system/logs`, and the line that OSCAR's own log would have (contract 1.10)."""
    at, latency, user = fine_instant(access.at), latency_text(access.seconds), access.user or "nil"
    call = f"{access.method} {access.path}"
    raw = f"[GIN-EXECUTIONS-LOGGER] {at} | {access.status} | {latency} | {access.client} | {call} | {user}"
    return {
        "timestamp": instant(access.at),
        "status": access.status,
        "latency": latency,
        "client_ip": access.client,
        "method": access.method,
        "path": access.path,
        "user": user,
        "raw": raw,
    }


def latency_text(seconds: float) -> str:
    """A duration as Go prints it: `850µs`, `12.3ms`, `1.5s`."""
    if seconds < 0.001:
        return f"{round(seconds * 1e6)}µs"
    if seconds < 1:
        return f"{seconds * 1e3:.6g}ms"
    return f"{seconds:.6g}s"
