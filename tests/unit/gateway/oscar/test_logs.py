"""`/system/logs`: Invocations as jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import CHANGED, LOG_WRITTEN, Change, LogWritten, Phase
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.sql.invocation_rows import save

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SERVICE = ServiceName("edge-blur")


def job(number: int, phase: Phase = Phase.SUCCEEDED, **fields: Any) -> InvocationRow:
    started = None if phase is Phase.PENDING else AT + timedelta(seconds=4)
    ended = phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)
    values: dict[str, Any] = {
        "id": InvocationId(f"{number:032x}"),
        "service": SERVICE,
        "requested_at": AT + timedelta(seconds=number),
        "started_at": started,
        "finished_at": AT + timedelta(seconds=25) if ended else None,
        "position": number,
        "phase": phase,
    }
    return InvocationRow(**(values | fields))


async def store(platform: Platform, *rows: InvocationRow) -> None:
    async with platform.engine.begin() as connection:
        await save(connection, rows)


async def write(platform: Platform, row: InvocationRow, *lines: str, first_line: int = 0, attempt: int = 1) -> None:
    body = LogWritten(invocation_id=row.id, service=SERVICE, attempt=attempt, first_line=first_line, at=AT, lines=lines)
    await platform.bus.log.append(LOG_WRITTEN, body, key=f"{SERVICE}.{row.id}")


@pytest.fixture
async def service(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a platform with one Service."""
    assert (await client.post("/system/services", content=json.dumps(definition()))).status_code == 201
    return client


async def test_without_jobs_the_map_is_empty(service: httpx.AsyncClient) -> None:
    answer = await service.get("/system/logs/edge-blur?page=")

    assert (answer.status_code, answer.json()) == (200, {"jobs": {}})


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        (Phase.PENDING, "Pending"),
        (Phase.RUNNING, "Running"),
        (Phase.SUCCEEDED, "Succeeded"),
        (Phase.FAILED, "Failed"),
        (Phase.CANCELLED, "Failed"),
    ],
)
async def test_a_job_has_the_status_of_a_pod(
    service: httpx.AsyncClient, platform: Platform, phase: Phase, status: str
) -> None:
    await store(platform, job(0, phase))

    shown = (await service.get("/system/logs/edge-blur")).json()["jobs"][f"{0:032x}"]

    assert shown["status"] == status
    assert shown["creation_time"] == "2026-01-02T03:04:05Z"
    assert ("start_time" in shown) == (phase is not Phase.PENDING)
    assert ("finish_time" in shown) == (phase not in (Phase.PENDING, Phase.RUNNING))


async def test_pages_have_70_jobs_and_say_how_many_remain(service: httpx.AsyncClient, platform: Platform) -> None:
    await store(platform, *(job(number) for number in range(75)))

    first = (await service.get("/system/logs/edge-blur")).json()
    second = (await service.get("/system/logs/edge-blur", params={"page": first["next_page"]})).json()

    assert (len(first["jobs"]), first["remaining_jobs"], len(second["jobs"])) == (70, 5, 5)
    assert set(second) == {"jobs"}
    assert len(first["jobs"] | second["jobs"]) == 75


async def test_logs_of_a_missing_service_are_404(client: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        assert (await client.request(method, "/system/logs/nobody")).status_code == 404


async def test_the_log_is_what_the_script_wrote(service: httpx.AsyncClient, platform: Platform) -> None:
    row = job(1)
    await store(platform, row)
    await write(platform, row, "one", "two")
    await write(platform, row, "two", "drei", first_line=1)

    answer = await service.get(f"/system/logs/edge-blur/{row.id}")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == "one\ntwo\ndrei\n"


async def test_timestamps_stand_before_each_line(service: httpx.AsyncClient, platform: Platform) -> None:
    row = job(1)
    await store(platform, row)
    await write(platform, row, "one")

    answer = await service.get(f"/system/logs/edge-blur/{row.id}?timestamps=true")

    assert answer.text.startswith("2026-01-02T03:04:05.678")
    assert answer.text.endswith("Z one\n")


@pytest.mark.parametrize(("phase", "status"), [(Phase.PENDING, 404), (Phase.RUNNING, 200), (Phase.SUCCEEDED, 200)])
async def test_a_job_that_has_not_begun_has_no_log(
    service: httpx.AsyncClient, platform: Platform, phase: Phase, status: int
) -> None:
    await store(platform, job(1, phase))

    answer = await service.get(f"/system/logs/edge-blur/{1:032x}")

    assert (answer.status_code, answer.content) == (status, b"")


async def test_the_tail_is_shown_when_the_log_is_not_kept_any_more(
    service: httpx.AsyncClient, platform: Platform
) -> None:
    await store(platform, job(1, Phase.FAILED, log_tail="last words\n"))

    assert (await service.get(f"/system/logs/edge-blur/{1:032x}")).text == "last words\n"


async def test_a_job_is_only_found_below_its_service(service: httpx.AsyncClient, platform: Platform) -> None:
    await service.post("/system/services", content=json.dumps(definition("other")))
    await store(platform, job(1))

    for method in ("GET", "DELETE"):
        assert (await service.request(method, f"/system/logs/other/{1:032x}")).status_code == 404
        assert (await service.request(method, "/system/logs/edge-blur/unknown")).status_code == 404
    assert (await service.delete(f"/system/logs/nobody/{1:032x}")).status_code == 403


async def jobs(client: httpx.AsyncClient) -> set[str]:
    return set((await client.get("/system/logs/edge-blur")).json()["jobs"])


async def test_deleting_a_job_takes_it_out_of_the_list(service: httpx.AsyncClient, platform: Platform) -> None:
    await store(platform, job(1), job(2))

    answer = await service.delete(f"/system/logs/edge-blur/{1:032x}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await jobs(service) == {f"{2:032x}"}
    assert (await service.get(f"/system/logs/edge-blur/{1:032x}")).status_code == 404


@pytest.mark.parametrize(("query", "left"), [("", {2, 3}), ("?all=false", {2, 3}), ("?all=true", {3})])
async def test_deleting_all_jobs(service: httpx.AsyncClient, platform: Platform, query: str, left: set[int]) -> None:
    await store(platform, job(1), job(2, Phase.FAILED), job(3, Phase.RUNNING))

    assert (await service.delete(f"/system/logs/edge-blur{query}")).status_code == 204

    assert await jobs(service) == {f"{number:032x}" for number in left}


@pytest.mark.parametrize("path", [f"/{3:032x}", "?all=true"])
async def test_deleting_an_open_job_cancels_it(service: httpx.AsyncClient, platform: Platform, path: str) -> None:
    await store(platform, job(3, Phase.RUNNING))

    assert (await service.delete(f"/system/logs/edge-blur{path}")).status_code == 204

    async with platform.bus.log.read(CHANGED) as records:
        changes = [(record.body.invocation_id, record.body.change) async for record in records]
    assert changes == [(f"{3:032x}", Change.CANCELLED)]
