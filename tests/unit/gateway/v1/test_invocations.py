"""`/v1/invocations`: every Invocation can be looked up, listed, cancelled, retried and followed by its id."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import timedelta

import pytest

from tests.unit.gateway.v1.conftest import NOW, PATIENCE, Gateway
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import CHANGED, Change, Reason
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.tailing import Seen, Tails


async def test_an_accepted_call_can_be_looked_up_before_it_is_projected(gateway: Gateway) -> None:
    invocation = await gateway.job()
    asking = asyncio.create_task(gateway.client.get(f"/v1/invocations/{invocation}"))
    await asyncio.sleep(0)
    await gateway.tell(invocation, Change.REQUESTED, trigger="direct")
    answer = await asking
    assert (answer.status_code, answer.json()["phase"]) == (200, "Pending")


async def test_an_unknown_invocation_is_a_problem(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.deps.queries, "_patience", 0.01)
    answer = await gateway.client.get("/v1/invocations/none")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no invocation none",
    }


async def test_an_invocation_tells_what_became_of_it(gateway: Gateway) -> None:
    invocation = await gateway.job()
    outputs = (ArtifactRef(path="out/a.png", etag="e", size=3),)
    await gateway.run_to(
        invocation, Change.FAILED, reason=Reason.SCRIPT_FAILED, exit_code=7, log_tail="oh\n", outputs=outputs
    )
    shown = (await gateway.client.get(f"/v1/invocations/{invocation}/")).json()
    assert (shown["phase"], shown["dead"], shown["reason"]) == ("Failed", False, "script-failed")
    assert (shown["exit_code"], shown["attempts"], shown["log_tail"]) == (7, 1, "oh\n")
    assert shown["outputs"][0]["path"] == "out/a.png"
    assert shown["requested_at"] < shown["started_at"] < shown["finished_at"]


async def test_pages_have_every_invocation_once_newest_first(gateway: Gateway) -> None:
    for number in range(7):
        await gateway.tell(f"i{number}", Change.REQUESTED)
    await gateway.deps.queries.await_known("i6")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await gateway.client.get("/v1/invocations", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"i{number}" for number in reversed(range(7))]


async def test_lists_can_be_narrowed(gateway: Gateway) -> None:
    await gateway.tell("good", Change.REQUESTED)
    await gateway.tell("good", Change.SUCCEEDED)
    await gateway.tell("dead", Change.DEAD, reason=Reason.SCRIPT_FAILED)
    await gateway.tell("open", Change.REQUESTED, redrive_of="good")
    await gateway.deps.queries.await_known("open")
    queries: list[tuple[dict[str, str], set[str]]] = [
        ({"phase": "Succeeded"}, {"good"}),
        ({"dead": "true"}, {"dead"}),
        ({"reason": "script-failed"}, {"dead"}),
        ({"service": "other"}, set()),
        ({"since": (NOW + timedelta(seconds=4)).isoformat()}, {"open"}),
        ({"until": (NOW + timedelta(seconds=3)).isoformat()}, {"good"}),
        ({"redrive_of": "good"}, {"open"}),
    ]
    for query, expected in queries:
        page = (await gateway.client.get("/v1/invocations", params=query)).json()
        assert {item["id"] for item in page["items"]} == expected, query


async def test_a_wrong_query_is_400(gateway: Gateway) -> None:
    for query in ({"cursor": "junk"}, {"phase": "Odd"}, {"limit": "0"}, {"since": "2026-01-01"}):
        answer = await gateway.client.get("/v1/invocations", params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), query


async def test_cancel_ends_an_open_invocation_once(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    answer = await gateway.client.post(f"/v1/invocations/{invocation}/cancel")
    assert (answer.status_code, answer.json()["phase"]) == (202, "Cancelled")
    assert (await gateway.client.post(f"/v1/invocations/{invocation}/cancel")).status_code == 409
    async with gateway.platform.bus.log.read(CHANGED) as records:
        changes = [record.body.change async for record in records]
    assert changes == [Change.REQUESTED, Change.CANCELLED]


async def test_retry_runs_the_same_input_as_a_new_invocation(gateway: Gateway) -> None:
    invocation = await gateway.job(b"input", **{"content-type": "text/csv"})
    await gateway.run_to(invocation, Change.FAILED, reason=Reason.SCRIPT_FAILED)
    answer = await gateway.client.post(f"/v1/invocations/{invocation}/retry")
    old, new = await gateway.events()
    assert answer.status_code == 201
    assert answer.json() == {"id": answer.headers["location"].rpartition("/")[2], "redrive_of": invocation}
    assert (new.data, new.data_content_type, new.service) == (b"input", "text/csv", "thumb")
    assert (new.redrive_of, new.id != old.id) == (invocation, True)
    assert (new.deadline, new.reply_to) == (None, None)


async def test_an_open_invocation_is_not_retried(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    assert (await gateway.client.post(f"/v1/invocations/{invocation}/retry")).status_code == 409


async def test_a_retry_whose_event_is_forgotten_is_rebuilt_from_its_object(gateway: Gateway) -> None:
    artifact = ArtifactRef(path="photos/in/a.png", etag="e")
    await gateway.tell("old", Change.REQUESTED, event_id="gone", trigger="minio.default:photos/in", input=artifact)
    await gateway.tell("old", Change.FAILED)
    await gateway.tell("bare", Change.FAILED, event_id="gone too", trigger="direct")
    await gateway.deps.queries.await_ended("bare")
    assert (await gateway.client.post("/v1/invocations/old/retry")).status_code == 201
    [event] = await gateway.events()
    assert (event.artifact, event.redrive_of) == (artifact, "old")
    assert (await gateway.client.post("/v1/invocations/bare/retry")).status_code == 404


async def test_the_result_is_given_as_it_came(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    assert (await gateway.client.get(f"/v1/invocations/{invocation}/result")).status_code == 404
    await gateway.run_to(invocation, Change.SUCCEEDED, result=b"\x00\xff")
    answer = await gateway.client.get(f"/v1/invocations/{invocation}/result")
    assert (answer.status_code, answer.content) == (200, b"\x00\xff")


async def test_a_services_token_reads_its_own_invocations_only(gateway: Gateway) -> None:
    await gateway.tell("mine", Change.REQUESTED)
    await gateway.tell("other", Change.REQUESTED, service="other")
    await gateway.deps.queries.await_known("other")
    own = gateway.as_service()
    client = gateway.client
    assert (await client.get("/v1/invocations/mine", auth=own)).status_code == 200
    assert (await client.get("/v1/invocations?service=thumb", auth=own)).status_code == 200
    assert (await client.get("/v1/invocations/other", auth=own)).status_code == 403
    assert (await client.get("/v1/invocations", auth=own)).status_code == 403
    assert (await client.post("/v1/invocations/mine/cancel", auth=own)).status_code == 401
    assert (await client.get("/v1/dead-letters", auth=own)).status_code == 401


async def test_without_credentials_nothing_is_told(gateway: Gateway) -> None:
    for path in ("/v1/invocations", "/v1/invocations/x", "/v1/accounts", "/v1/events", "/v1/cluster"):
        answer = await gateway.client.get(path, auth=("oscar", "wrong"))
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True)


async def test_logs_are_one_text_and_lines_told_again_are_left_out(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.write(invocation, 0, "one", "two")
    await gateway.write(invocation, 1, "two", "three")
    await gateway.run_to(invocation, Change.SUCCEEDED)
    answer = await gateway.client.get(f"/v1/invocations/{invocation}/logs")
    assert answer.text == "one\ntwo\nthree\n"
    stamped = await gateway.client.get(f"/v1/invocations/{invocation}/logs?timestamps=true")
    assert stamped.text.splitlines()[0] == "2026-01-02T00:00:00Z one"
    followed = await gateway.client.get(f"/v1/invocations/{invocation}/logs?follow=true")
    assert followed.text == "one\ntwo\nthree\n"


def parsed(text: str) -> list[tuple[str, str, dict[str, object]]]:
    """(event, id, data) of each server-sent event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


async def test_the_tail_tells_changes_and_lines_until_the_end(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    tail = asyncio.create_task(gateway.client.get(f"/v1/invocations/{invocation}/tail"))
    await gateway.deps.queries.await_known(invocation)
    await gateway.tell(invocation, Change.STARTED)
    await gateway.write(invocation, 0, "one")
    await gateway.tell(invocation, Change.SUCCEEDED)
    answer = await tail
    events = parsed(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [data["lines"] for name, _, data in events if name == "log"] == [["one"]]
    assert [data["phase"] for name, _, data in events if name == "invocation"][-1] == "Succeeded"
    assert events[-1][0] == "end"


async def test_a_tail_resumes_behind_what_was_seen(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.write(invocation, 0, "one")
    await gateway.write(invocation, 1, "two")
    await gateway.run_to(invocation, Change.SUCCEEDED)
    whole = parsed((await gateway.client.get(f"/v1/invocations/{invocation}/tail")).text)
    first_line = next(identity for name, identity, _ in whole if name == "log")
    resumed = await gateway.client.get(f"/v1/invocations/{invocation}/tail", headers={"last-event-id": first_line})
    assert [(name, data.get("lines")) for name, _, data in parsed(resumed.text)] == [("log", ["two"]), ("end", None)]


async def test_a_change_that_was_in_sql_before_it_was_told_is_not_told_twice(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    row = await gateway.deps.queries.await_known(invocation)
    async with gateway.platform.bus.log.read(CHANGED) as records:
        folded = [record async for record in records]
    deps = gateway.deps
    tails = Tails(deps.queries, deps.logs, deps.changes, deps.stopping)
    async with aclosing(tails.tail(row, Seen())) as tail:
        assert (await anext(tail)).row == row
        deps.changes.publish(folded)  # as after a transaction of another replica
        assert (await anext(tail)).row is None
        await gateway.tell(invocation, Change.STARTED)
        while (changed := (await anext(tail)).row) is None:
            pass
    assert changed.phase == "Running"


async def test_a_line_that_comes_while_a_change_is_read_is_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    deps = gateway.deps
    row, get = await deps.queries.await_known(invocation), deps.queries.get

    async def slow(name: str) -> InvocationRow:
        found = await get(name)
        if found.phase == "Running":
            await gateway.write(invocation, 0, "one")
            for _ in range(20):
                await asyncio.sleep(0)  # whoever waits for lines has it
        return found

    async with aclosing(Tails(deps.queries, deps.logs, deps.changes, deps.stopping).tail(row, Seen())) as tail:
        await anext(tail)
        monkeypatch.setattr(deps.queries, "get", slow)
        await gateway.tell(invocation, Change.STARTED)
        async with asyncio.timeout(PATIENCE):
            while (written := (await anext(tail)).log) is None:
                pass
    assert written.lines == ("one",)


async def test_an_ended_invocation_is_told_with_all_its_lines_however_slow_the_bus_is(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_gateway.tailing._LAST_LINES", 0.0)
    invocation = await gateway.job()
    await gateway.write(invocation, 0, "one")
    await gateway.write(invocation, 1, "two")
    await gateway.run_to(invocation, Change.SUCCEEDED)
    followed = await gateway.client.get(f"/v1/invocations/{invocation}/logs?follow=true")
    assert followed.text == "one\ntwo\n"


async def test_a_tail_ends_when_the_gateway_drains(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    tail = asyncio.create_task(gateway.client.get(f"/v1/invocations/{invocation}/tail"))
    await gateway.deps.queries.await_known(invocation)
    gateway.deps.stopping.set()
    events = parsed((await tail).text)
    assert [name for name, _, _ in events] == ["invocation"]
