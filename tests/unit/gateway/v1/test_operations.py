"""Dead letters, replays, accounts, reconciliation, cluster: what an operator does."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.unit.gateway.v1.conftest import Gateway
from tidemill_common.contracts.event import RECEIVED, ArtifactRef, EventReceived
from tidemill_common.contracts.invocation import SET_ASIDE, Change, invocation_id
from tidemill_gateway.app import build_app
from tidemill_gateway.reconciliation import RECONCILE


async def test_a_dead_letter_shows_its_event(gateway: Gateway) -> None:
    invocation = await gateway.job(b"\xff")
    await gateway.die(invocation)
    [listed] = (await gateway.client.get("/v1/dead-letters?service=thumb")).json()["items"]
    shown = (await gateway.client.get(f"/v1/dead-letters/{invocation}")).json()
    assert (listed["invocation_id"], listed["reason"], listed["log_tail"]) == (invocation, "script-failed", "boom")
    assert shown["payload"] == {"encoding": "base64", "body": base64.b64encode(b"\xff").decode()}
    assert shown["event"]["service"] == "thumb"
    assert (await gateway.client.get("/v1/dead-letters?service=other")).json()["items"] == []


async def test_a_redriven_letter_is_gone_and_runs_once(gateway: Gateway) -> None:
    invocation = await gateway.job(b"input")
    await gateway.die(invocation)
    answer = await gateway.client.post(f"/v1/dead-letters/{invocation}/redrive")
    again = await gateway.client.post(f"/v1/dead-letters/{invocation}/redrive")
    _, event = await gateway.events()
    assert (answer.status_code, again.status_code) == (201, 404)
    assert (event.data, event.redrive_of) == (b"input", invocation)
    assert answer.json()["id"] == invocation_id(event.id, "thumb", "direct")
    oldest, newest = await gateway.platform.bus.log.end(SET_ASIDE)
    assert oldest > newest


@pytest.mark.parametrize(
    ("edit", "payload"),
    [
        ({"payload": "better", "content_type": "text/plain"}, b"better"),
        ({"payload_base64": base64.b64encode(b"\xfe").decode()}, b"\xfe"),
        ({"artifact": {"path": "photos/in/b.png"}}, None),
    ],
)
async def test_a_letter_can_be_edited_on_its_way_back(
    gateway: Gateway, edit: dict[str, object], payload: bytes | None
) -> None:
    invocation = await gateway.job(b"bad")
    await gateway.die(invocation)
    assert (await gateway.client.post(f"/v1/dead-letters/{invocation}/redrive", json=edit)).status_code == 201
    event = (await gateway.events())[-1]
    assert event.data == payload
    assert event.artifact == (ArtifactRef(path="photos/in/b.png") if "artifact" in edit else None)


async def test_a_wrong_edit_changes_nothing(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.die(invocation)
    answer = await gateway.client.post(f"/v1/dead-letters/{invocation}/redrive", json={"payload_base64": "%"})
    assert (answer.status_code, len(await gateway.events())) == (400, 1)


async def test_many_letters_are_redriven_up_to_the_limit(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.die(await gateway.job())
    answer = (await gateway.client.post("/v1/dead-letters/redrive", json={"limit": 2, "per_second": 1000})).json()
    assert (len(answer["invocations"]), answer["failed"], answer["more"]) == (2, {}, True)
    assert len((await gateway.client.get("/v1/dead-letters")).json()["items"]) == 1


async def test_purged_letters_are_gone(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.die(await gateway.job())
    one = (await gateway.client.get("/v1/dead-letters?limit=1")).json()["items"][0]["invocation_id"]
    assert (await gateway.client.delete(f"/v1/dead-letters/{one}")).status_code == 204
    assert (await gateway.client.delete("/v1/dead-letters?service=thumb")).json() == {"purged": 2}
    assert len(await gateway.events()) == 3


async def stored(gateway: Gateway, *keys: str) -> None:
    """Events of objects."""
    for key in keys:
        event = EventReceived.model_validate(
            {
                "id": key,
                "source": "/sources/x",
                "type": "org.tidemill.object.created.v1",
                "time": datetime.now(UTC),
                "artifact": {"path": key},
            }
        )
        await gateway.platform.bus.log.append(RECEIVED, event, key=key.partition("/")[0], message_id=key)


async def test_events_can_be_listed_for_a_service_and_a_bucket(gateway: Gateway) -> None:
    await stored(gateway, "thumb/in/a", "thumb/else/b", "other/in/c")
    await gateway.job()

    async def ids(query: str) -> list[str | None]:
        page = (await gateway.client.get(f"/v1/events?{query}")).json()
        return [item["artifact"]["path"] if item["artifact"] else None for item in page["items"]]

    assert await ids("") == ["thumb/in/a", "thumb/else/b", "other/in/c", None]
    assert await ids("service=thumb") == ["thumb/in/a", None]
    assert await ids("bucket=other") == ["other/in/c"]
    assert await ids("until=2020-01-01T00:00:00Z") == []
    first = (await gateway.client.get("/v1/events?limit=1")).json()
    assert await ids(f"start={first['next']}&limit=1") == ["thumb/else/b"]
    assert (await gateway.client.get("/v1/events/2")).json()["id"] == "thumb/else/b"
    assert (await gateway.client.get("/v1/events/99")).status_code == 404
    assert (await gateway.client.get("/v1/events?service=none")).status_code == 404


async def test_a_replay_runs_the_matching_events_again_once(gateway: Gateway) -> None:
    await stored(gateway, "thumb/in/a", "other/in/c")
    asked = {"service": "thumb", "since": "2020-01-01T00:00:00Z", "id": "mine"}
    done = (await gateway.client.post("/v1/replays", json=asked)).json()
    await gateway.client.post("/v1/replays", json=asked)
    event = (await gateway.events())[-1]
    assert done == {"id": "mine", "matched": 1, "appended": 1}
    assert len(await gateway.events()) == 3
    assert event.artifact == ArtifactRef(path="thumb/in/a")
    assert event.redrive_of == invocation_id("thumb/in/a", "thumb", "minio.default:thumb/in")


async def test_accounts_balance(gateway: Gateway) -> None:
    for change in (Change.SUCCEEDED, Change.FAILED, Change.DEAD, Change.CANCELLED):
        await gateway.run_to(await gateway.job(), change)
    await gateway.tell("waits", Change.REQUESTED)
    await gateway.deps.queries.await_known("waits")
    books = (await gateway.client.get("/v1/accounts")).json()
    [account] = books["items"]
    assert books["balanced"] is True
    names = ("requested", "succeeded", "failed", "dead", "cancelled", "pending", "running", "pruned", "open_on_bus")
    assert [account[name] for name in names] == [5, 1, 1, 1, 1, 1, 0, 0, 0]


async def test_accounts_that_do_not_balance_say_so(gateway: Gateway) -> None:
    await gateway.tell("nobody asked", Change.SUCCEEDED)
    await gateway.deps.queries.await_ended("nobody asked")
    assert (await gateway.client.get("/v1/accounts")).json()["balanced"] is False
    assert "tidemill_accounts_balanced 0.0" in (await gateway.client.get("/metrics")).text


async def test_metrics_count_calls(gateway: Gateway) -> None:
    await gateway.job()
    text = (await gateway.client.get("/metrics", auth=None)).text
    assert 'tidemill_gateway_calls_total{outcome="accepted",route="job"} 1.0' in text


async def test_reconciliation_without_a_bridge_is_503(gateway: Gateway) -> None:
    settings = gateway.deps.settings.model_copy(update={"reconcile_timeout": timedelta()})
    app = httpx.ASGITransport(build_app(replace(gateway.deps, settings=settings)))
    async with httpx.AsyncClient(transport=app, base_url="http://gateway", auth=("oscar", "pw")) as impatient:
        answer = await impatient.post("/v1/services/thumb/reconcile")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await gateway.client.post("/v1/services/none/reconcile")).status_code == 404


async def test_the_bridges_answer_is_handed_on(gateway: Gateway) -> None:
    live = gateway.platform.bus.live
    listening = asyncio.Event()

    async def bridge() -> None:
        async with live.subscribe(RECONCILE) as requests:
            listening.set()
            async for _, body in requests:
                asked = json.loads(body)
                answer = {"service": asked["service"], "listed": 5, "missing": 2, "submitted": 0}
                await live.publish(asked["reply_to"], json.dumps(answer).encode())
                return

    running = asyncio.create_task(bridge())
    await listening.wait()
    answer = await gateway.client.post("/v1/services/thumb/reconcile", json={"dry_run": True})
    await running
    assert answer.json() == {"service": "thumb", "listed": 5, "missing": 2, "submitted": 0, "error": None}


async def test_revisions_tell_what_a_service_was(gateway: Gateway) -> None:
    [revision] = (await gateway.client.get("/v1/services/thumb/revisions")).json()
    assert (revision["number"], revision["who"], revision["removed"]) == (1, "oscar", False)
    assert revision["definition"]["image"] == "docker.io/acme/blur:1"
    assert (await gateway.client.get("/v1/services/none/revisions")).status_code == 404


async def test_the_cluster_is_what_the_scheduler_told(gateway: Gateway) -> None:
    assert (await gateway.client.get("/v1/cluster")).json() == {"at": None, "scheduler": None}
    await gateway.platform.bus.registers.put("scheduler.status", b'{"pools": []}')
    assert (await gateway.client.get("/v1/cluster")).json()["scheduler"] == {"pools": []}


async def test_an_unknown_route_is_a_problem(gateway: Gateway) -> None:
    answer = await gateway.client.get("/v1/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    elsewhere = await gateway.client.delete("/health")
    assert (elsewhere.status_code, elsewhere.text) == (404, "404 page not found")
