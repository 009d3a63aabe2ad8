"""`/system/metrics`: figures out of Invocations, as JSON and CSV."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Phase
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.sql.invocation_rows import save

START, END = "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PERIOD = {"start": START, "end": END}


def ended(
    number: int, service: str = "edge-blur", *, lane: Lane = Lane.BATCH, user: str | None = None
) -> InvocationRow:
    return InvocationRow(
        id=InvocationId(f"{number:032x}"),
        service=ServiceName(service),
        requested_at=AT,
        started_at=AT,
        finished_at=AT + timedelta(hours=1),
        position=number,
        phase=Phase.SUCCEEDED,
        lane=lane,
        principal=user,
    )


@pytest.fixture
async def used(client: httpx.AsyncClient, platform: Platform) -> httpx.AsyncClient:
    """A Service with half a core and three calls, and one call of a Service that is gone."""
    body = definition(cpu="0.5")
    assert (await client.post("/system/services", content=json.dumps(body))).status_code == 201
    rows = [ended(1, user="ann"), ended(2, user="ann"), ended(3, lane=Lane.INTERACTIVE), ended(4, "gone", user="bob")]
    async with platform.engine.begin() as connection:
        await save(connection, rows)
    return client


async def read(client: httpx.AsyncClient, path: str, **query: str) -> Any:
    answer = await client.get(f"/system/metrics{path}", params={**PERIOD, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_totals_are_of_the_period(used: httpx.AsyncClient) -> None:
    figures = await read(used, "")

    assert {name: figures[name] for name in PERIOD} == PERIOD
    assert figures["totals"] == {
        "services_count_active": 1,
        "services_count_total": 2,
        "cpu_hours_total": 2.5,
        "gpu_hours_total": 0,
        "requests_count_total": 4,
        "requests_count_sync": 1,
        "requests_count_async": 3,
        "requests_count_exposed": 0,
        "countries_count": 0,
        "countries": [],
        "users_count": 3,
        "users": ["ann", "bob", "oscar"],
    }
    assert all(set(source) == {"name", "status", "last_updated", "notes"} for source in figures["sources"])


async def test_a_period_without_calls_has_nulls(used: httpx.AsyncClient) -> None:
    figures = await read(used, "", start="2025-01-01T00:00:00Z", end="2025-01-02T00:00:00Z")

    assert (figures["totals"]["countries"], figures["totals"]["users"]) == (None, None)


async def test_one_service_has_all_its_metrics(used: httpx.AsyncClient) -> None:
    figures = await read(used, "/edge-blur")

    assert figures["service_name"] == "edge-blur"
    assert {item["metric"]: item["value"] for item in figures["metrics"]} == {
        "cpu-hours": 1.5,
        "gpu-hours": 0,
        "requests-sync-per-service": 1,
        "requests-async-per-service": 2,
        "requests-exposed-per-service": 0,
        "users-per-service": 2,
    }


async def test_one_metric_of_one_service(used: httpx.AsyncClient) -> None:
    figure = await read(used, "/edge-blur", metric="cpu-hours")

    assert (figure["service_id"], figure["metric"], figure["value"], figure["unit"]) == (
        "edge-blur",
        "cpu-hours",
        1.5,
        "hours",
    )


async def test_a_service_that_nobody_called_has_zeros(used: httpx.AsyncClient) -> None:
    assert (await read(used, "/nobody", metric="users-per-service"))["value"] == 0


@pytest.mark.parametrize(("group_by", "keys"), [("service", ["edge-blur", "gone"]), ("user", ["ann", "bob", "oscar"])])
async def test_breakdown_groups(used: httpx.AsyncClient, group_by: str, keys: list[str]) -> None:
    items = (await read(used, "/breakdown", group_by=group_by))["items"]

    assert [item["key"] for item in items] == keys


async def test_breakdown_names_users_when_asked(used: httpx.AsyncClient) -> None:
    items = (await read(used, "/breakdown", group_by="service", include_users="true"))["items"]

    assert items[0]["users"] == ["ann", "oscar"]


async def test_breakdown_by_country_is_unknown(used: httpx.AsyncClient) -> None:
    items = (await read(used, "/breakdown", group_by="country"))["items"]

    assert [(item["key"], item["executions_count"]) for item in items] == [("unknown", 4)]


async def test_breakdown_as_csv(used: httpx.AsyncClient) -> None:
    answer = await used.get("/system/metrics/breakdown", params={**PERIOD, "group_by": "user", "format": "csv"})

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines() == [
        "key,membership,executions_count,countries",
        "ann,unknown,2,",
        "bob,unknown,1,",
        "oscar,unknown,1,",
    ]


@pytest.mark.parametrize(
    ("path", "query", "error"),
    [
        ("", {"start": "yesterday"}, "invalid start timestamp"),
        ("", {"end": "2026-01-02"}, "invalid end timestamp"),
        ("", {"start": END, "end": START}, "end must be after start"),
        ("/edge-blur", {"metric": "services-count"}, "invalid metric"),
        ("/breakdown", {}, "invalid group_by"),
        ("/breakdown", {"group_by": "moon"}, "invalid group_by"),
        ("/breakdown", {"group_by": "user", "format": "xml"}, "invalid format"),
        (
            "/breakdown",
            {"group_by": "service", "format": "csv", "include_users": "true"},
            "include_users is not supported for csv output",
        ),
    ],
)
async def test_wrong_questions_are_400(client: httpx.AsyncClient, path: str, query: dict[str, str], error: str) -> None:
    answer = await client.get(f"/system/metrics{path}", params=query)

    assert (answer.status_code, answer.json()) == (400, {"error": error})
