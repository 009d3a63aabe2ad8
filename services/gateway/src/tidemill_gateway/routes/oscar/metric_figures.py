"""OSCAR's metrics out of usage rows (OSCAR contract 12). Pure.

Countries are not known here. CPU hours are cores asked for times run time: what a Service took from others, not what
its script made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tidemill_gateway.routes.oscar.usage_rows import Usage

UNKNOWN: Final = "unknown"
_NOBODY: Final = "oscar"
SOURCES: Final = (
    {"name": "service-inventory", "status": "ok", "notes": ""},
    {"name": "prometheus", "status": "missing", "notes": "cpu hours are cores asked for times run time"},
    {"name": "request-logs", "status": "ok", "notes": ""},
    {"name": "country-attribution", "status": "missing", "notes": "countries are not recorded"},
    {"name": "exposed-request-logs", "status": "missing", "notes": "requests to exposed services are not counted"},
)
SERVICE_METRICS: Final[Mapping[str, str | None]] = {
    "cpu-hours": "hours",
    "gpu-hours": "hours",
    "requests-sync-per-service": None,
    "requests-async-per-service": None,
    "requests-exposed-per-service": None,
    "users-per-service": None,
}
"""Metric -> unit."""
CSV_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "service": (
        "key",
        "membership",
        "requests_count_total",
        "requests_count_sync",
        "requests_count_async",
        "requests_count_exposed",
        "unique_users_count",
        "countries",
    ),
    "user": ("key", "membership", "executions_count", "countries"),
    "country": ("key", "membership", "executions_count", "unique_users_count", "countries"),
}


def totals(rows: Sequence[Usage], cores: Mapping[str, float]) -> dict[str, Any]:
    """Figures of all Services; `cores` has those that exist now."""
    synchronous, asynchronous = _requests(rows)
    users = _users(rows)
    return {
        "services_count_active": len(cores),
        "services_count_total": len({row.service for row in rows}),
        "cpu_hours_total": cpu_hours(rows, cores),
        "gpu_hours_total": 0,
        "requests_count_total": synchronous + asynchronous,
        "requests_count_sync": synchronous,
        "requests_count_async": asynchronous,
        "requests_count_exposed": 0,
        "countries_count": 0,
        "countries": [] if rows else None,
        "users_count": len(users),
        "users": users or None,
    }


def cpu_hours(rows: Iterable[Usage], cores: Mapping[str, float]) -> float:
    """Cores asked for times run time; a removed Service counts as one core."""
    return round(sum(row.run_seconds * cores.get(row.service, 1.0) for row in rows) / 3600, 6)


def service_figures(rows: Sequence[Usage], cores: Mapping[str, float]) -> dict[str, float]:
    """Every metric of one Service; `rows` are of this one."""
    synchronous, asynchronous = _requests(rows)
    return {
        "cpu-hours": cpu_hours(rows, cores),
        "gpu-hours": 0,
        "requests-sync-per-service": synchronous,
        "requests-async-per-service": asynchronous,
        "requests-exposed-per-service": 0,
        "users-per-service": len(_users(rows)),
    }


def breakdown(rows: Sequence[Usage], group_by: str, *, include_users: bool) -> list[dict[str, Any]]:
    """One item for each Service, user or country, by key."""
    match group_by:
        case "service":
            groups = _grouped(rows, lambda row: row.service)
            return [_service_item(key, group, include_users=include_users) for key, group in groups]
        case "user":
            return [_user_item(key, group) for key, group in _grouped(rows, _user)]
    return [_country_item(rows)] if rows else []


def _service_item(key: str, rows: Sequence[Usage], *, include_users: bool) -> dict[str, Any]:
    synchronous, asynchronous = _requests(rows)
    users = _users(rows)
    item: dict[str, Any] = {
        "key": key,
        "requests_count_total": synchronous + asynchronous,
        "requests_count_sync": synchronous,
        "requests_count_async": asynchronous,
        "requests_count_exposed": 0,
        "unique_users_count": len(users),
        "countries": [],
    }
    return item | ({"users": users} if include_users else {})


def _user_item(key: str, rows: Sequence[Usage]) -> dict[str, Any]:
    return {"key": key, "membership": UNKNOWN, "executions_count": sum(_requests(rows)), "countries": []}


def _country_item(rows: Sequence[Usage]) -> dict[str, Any]:
    counts = {"executions_count": sum(_requests(rows)), "unique_users_count": len(_users(rows))}
    return {"key": UNKNOWN, **counts, "countries": []}


def _requests(rows: Iterable[Usage]) -> tuple[int, int]:
    counts = {True: 0, False: 0}
    for row in rows:
        counts[row.is_synchronous] += row.requests
    return counts[True], counts[False]


def _user(row: Usage) -> str:
    return row.user or _NOBODY


def _users(rows: Iterable[Usage]) -> list[str]:
    return sorted({_user(row) for row in rows})


def _grouped(rows: Iterable[Usage], key: Callable[[Usage], str]) -> list[tuple[str, list[Usage]]]:
    groups: dict[str, list[Usage]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items())
