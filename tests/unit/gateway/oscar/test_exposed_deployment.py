"""State, logs and actions of exposed Services over HTTP (OSCAR contract 1.4 to 1.6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import (
    LOGS,
    WISHES,
    DeploymentState,
    ExposedState,
    LogLine,
    LogsAnswered,
    LogsAsked,
    Wish,
    state_register,
    wish_register,
)
from tidemill_gateway.dependencies import Dependencies

DOCUMENT: dict[str, Any] = {"name": "web", "image": "web:1", "script": "serve", "expose": {"api_port": 8000}}
AT = datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=UTC)


@pytest.fixture
async def created(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """With the exposed Service web."""
    assert (await client.post("/system/services", json=DOCUMENT)).status_code == 201
    return client


def state(word: DeploymentState = DeploymentState.READY, **fields: Any) -> ExposedState:
    """What a scheduler tells."""
    return ExposedState(service=ServiceName("web"), state=word, last_transition=AT, **fields)


async def tell(platform: Platform, told: ExposedState) -> None:
    """As the scheduler does."""
    await platform.bus.registers.put(state_register("web"), told.encode())


async def test_the_state_is_the_schedulers(created: httpx.AsyncClient, platform: Platform) -> None:
    await tell(platform, state(active=2, affected=1))
    answer = await created.get("/system/services/web/deployment")
    assert answer.json() == {
        "service_name": "web",
        "namespace": "oscar-svc",
        "state": "ready",
        "last_transition_time": "2026-01-02T03:04:05Z",
        "active_instances": 2,
        "affected_instances": 1,
        "resource_kind": "exposed_service",
    }
    shown = (await created.get("/system/services?include=deployment")).json()[0]
    assert shown["deployment"] == answer.json()


async def test_before_the_scheduler_has_told_anything_it_is_pending(created: httpx.AsyncClient) -> None:
    answer = (await created.get("/system/services/web/deployment")).json()
    assert (answer["state"], answer["resource_kind"]) == ("pending", "exposed_service")


@asynccontextmanager
async def scheduler(platform: Platform, dependencies: Dependencies) -> AsyncIterator[None]:
    """One that follows each wish at once, and the gateway's own listening."""

    async def follow() -> None:
        async with platform.bus.live.subscribe(WISHES) as messages:
            async for _ in messages:
                wish = await platform.bus.registers.get(wish_register("web"))
                assert wish is not None
                stopped = Wish.decode(wish.value).stopped
                word = DeploymentState.STOPPED if stopped else DeploymentState.READY
                told = state(word, wish=wish.revision)
                await tell(platform, told)
                await platform.bus.live.publish("live.exposed-state.web", told.encode())

    tasks = [asyncio.create_task(follow()), asyncio.create_task(dependencies.exposed_states.run())]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_actions_are_recorded_and_answered_with_the_state(
    created: httpx.AsyncClient, platform: Platform, dependencies: Dependencies
) -> None:
    async with scheduler(platform, dependencies):
        stopped = await created.post("/system/services/web/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
        started = await created.post("/system/services/web/start")
        assert started.json()["state"] == "ready"
        restarted = await created.post("/system/services/web/restart")
        assert restarted.status_code == 200
    register = await platform.bus.registers.get(wish_register("web"))
    assert register is not None
    wish = Wish.decode(register.value)
    assert not wish.stopped
    assert wish.restarted_at is not None


async def test_actions_need_an_exposed_service(client: httpx.AsyncClient) -> None:
    await client.post("/system/services", json={**DOCUMENT, "expose": {}})
    assert (await client.post("/system/services/web/stop")).status_code == 400
    assert (await client.post("/system/services/none/stop")).status_code == 404


@pytest.mark.parametrize(("asked", "lines"), [("", 200), ("x", 200), ("0", 200), ("-5", 200), ("7", 7), ("5000", 1000)])
async def test_logs_are_asked_of_the_scheduler(
    created: httpx.AsyncClient, platform: Platform, asked: str, lines: int
) -> None:
    async def answer() -> None:
        async with platform.bus.live.subscribe(LOGS) as messages:
            async for _, body in messages:
                question = LogsAsked.decode(body)
                line = LogLine(at=AT, text=f"{question.service} {question.lines}")
                await platform.bus.live.publish(question.reply_to, LogsAnswered(lines=(line,)).encode())

    task = asyncio.create_task(answer())
    await asyncio.sleep(0)
    try:
        answered = await created.get(f"/system/services/web/deployment/logs?timestamps=true&tailLines={asked}")
        assert answered.json() == {
            "service_name": "web",
            "available": True,
            "entries": [{"timestamp": "2026-01-02T03:04:05Z", "message": f"web {lines}"}],
        }
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_logs_without_a_scheduler_are_not_available(
    created: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_gateway.exposed.logs._PATIENCE_SECONDS", 0.0)
    answer = await created.get("/system/services/web/deployment/logs")
    assert answer.status_code == 200
    assert (answer.json()["available"], answer.json()["entries"]) == (False, [])
    assert "no scheduler answers" in answer.json()["message"]


async def test_forward_auth_answers_by_the_services_token(
    created: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    token = (await created.get("/system/services/web")).json()["token"]
    assert (await created.get("/system/services/web/auth")).status_code == 200
    assert (await created.get("/system/services/none/auth")).status_code == 404
    anyone.auth = httpx.Auth()
    assert (await anyone.get("/system/services/web/auth")).status_code == 401
    answer = await anyone.get("/system/services/web/auth", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["set-cookie"].startswith(f"oscar_service_web_auth={token}; ")
