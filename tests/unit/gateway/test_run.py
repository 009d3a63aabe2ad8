"""`/run`: the answer is the result; who does not wait any more cancels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.gateway.hot import Answer, Hot
from tidemill_common.contracts.contract import Contract, InvocationId
from tidemill_common.contracts.event import ArtifactRef, EventReceived, Lane
from tidemill_common.contracts.invocation import (
    DIRECT_TRIGGER,
    Change,
    InvocationChanged,
    Phase,
    Reason,
    invocation_id,
)
from tidemill_common.errors import ThrottledError
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.settings import Calls as CallSettings

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def answering(hot: Hot, change: Change, **more: Any) -> None:
    """A Worker that ends every Invocation at once."""

    def worker(body: Contract) -> None:
        if isinstance(body, EventReceived) and body.service is not None:
            identity = invocation_id(body.id, body.service, DIRECT_TRIGGER)
            record = InvocationChanged(invocation_id=identity, service=body.service, change=change, at=NOW, **more)
            asyncio.get_running_loop().call_soon(hot.replies.settle, record)

    hot.log.appended = worker


async def test_the_result_is_the_answer() -> None:
    hot = Hot()
    answering(hot, Change.SUCCEEDED, result=b"aGVsbG8=\n")
    answer = await hot.call("/run/thumb", b"x", content_type="application/json")
    [event] = hot.log.events
    assert (answer.status, answer.body) == (200, b"aGVsbG8=\n")
    assert answer.headers["content-type"] == "application/json"
    assert float(answer.headers["x-duration-seconds"]) >= 0
    assert (event.lane, event.deadline is not None) == (Lane.INTERACTIVE, True)
    assert event.reply_to == f"live.reply.gw1.{answer.headers['tidemill-invocation-id']}"


async def test_a_large_result_is_fetched() -> None:
    hot = Hot()
    hot.payloads.bodies["tidemill/results/1"] = bytes(50_000)
    answering(hot, Change.SUCCEEDED, result_ref=ArtifactRef(path="tidemill/results/1"))
    assert len((await hot.call("/run/thumb", b"x")).body) == 50_000


@pytest.mark.parametrize(
    ("change", "more", "status", "body"),
    [
        (Change.FAILED, {"reason": Reason.SCRIPT_FAILED, "result": b"out"}, 500, b"out"),
        (Change.FAILED, {"reason": Reason.SCRIPT_FAILED, "log_tail": "tail"}, 500, b"tail"),
        (Change.DEAD, {"reason": Reason.INPUT_MISSING, "message": "no such object"}, 500, b"no such object"),
        (Change.FAILED, {"reason": Reason.TIMEOUT}, 408, b""),
        (Change.FAILED, {"reason": Reason.DEADLINE_PASSED}, 504, b""),
        (Change.CANCELLED, {"reason": Reason.CANCELLED, "message": "cancelled by oscar"}, 500, b"cancelled by oscar"),
    ],
)
async def test_a_failure_is_not_200(change: Change, more: dict[str, Any], status: int, body: bytes) -> None:
    hot = Hot()
    answering(hot, change, **more)
    answer = await hot.call("/run/thumb", b"x")
    assert (answer.status, answer.body) == (status, body)
    assert "tidemill-invocation-id" in answer.headers


@pytest.mark.parametrize("asked", [{"path": "/run/thumb?timeout=0.01"}, {"tidemill_timeout": "0.01"}])
async def test_a_passed_deadline_is_504_and_cancels(asked: dict[str, str]) -> None:
    hot = Hot()
    answer = await hot.call(asked.pop("path", "/run/thumb"), b"x", more=asked)
    [record] = hot.log.changes
    assert answer.status == 504
    assert (record.change, record.reason) == (Change.CANCELLED, Reason.DEADLINE_PASSED)
    assert record.invocation_id == answer.headers["tidemill-invocation-id"]


async def test_a_caller_who_leaves_cancels() -> None:
    hot, gone = Hot(), asyncio.Event()
    hot.log.appended = lambda _: gone.set()
    answer = await hot.call("/run/thumb", b"x", disconnect=gone)
    assert answer.status == 0
    assert [record.change for record in hot.log.changes] == [Change.CANCELLED]


@pytest.mark.parametrize("asked", ["nan", "-1", "soon", "inf"])
async def test_a_senseless_timeout_is_the_default_one(asked: str) -> None:
    hot = Hot()
    answering(hot, Change.SUCCEEDED, result=b"ok")
    await hot.call("/run/thumb", b"x", tidemill_timeout=asked)
    [event] = hot.log.events
    assert event.deadline is not None
    assert 290 < (event.deadline - event.time).total_seconds() <= 300.1


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
async def test_every_method_of_the_watchdog_calls(method: str) -> None:
    hot = Hot()
    answering(hot, Change.SUCCEEDED, result=b"ok")
    assert (await hot.call("/run/thumb", method=method)).status == 200


async def test_too_many_waiting_callers_of_the_gateway_are_429() -> None:
    hot = Hot(settings=CallSettings(waiting=1))
    gone = asyncio.Event()

    async def second() -> Answer:
        return await hot.call("/run/thumb", b"y")

    first = asyncio.create_task(hot.call("/run/thumb", b"x", disconnect=gone))
    while not hot.log.events:
        await asyncio.sleep(0)
    answer = await second()
    gone.set()
    await first
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


async def test_too_many_waiting_callers_of_a_service_are_429_until_one_is_answered() -> None:
    hot = Hot(settings=CallSettings(waiting_per_service=2))
    gone = asyncio.Event()
    first = [asyncio.create_task(hot.call("/run/thumb", body, disconnect=gone)) for body in (b"x", b"y")]
    while len(hot.log.events) < 2:
        await asyncio.sleep(0)
    answer = await hot.call("/run/thumb", b"z")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert len(hot.log.events) == 2
    gone.set()
    await asyncio.gather(*first)
    answering(hot, Change.SUCCEEDED, result=b"ok")
    assert (await hot.call("/run/thumb", b"z")).status == 200


async def test_a_full_bus_is_503_with_retry_after() -> None:
    hot = Hot()
    hot.log.failure = ThrottledError("full", retry_after=timedelta(seconds=7))
    answer = await hot.call("/run/thumb", b"x")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    hot.log.failure = None
    answering(hot, Change.SUCCEEDED, result=b"ok")
    assert (await hot.call("/run/thumb", b"x")).status == 200


async def test_a_repeated_call_is_answered_from_what_became_of_the_first() -> None:
    hot = Hot()
    answering(hot, Change.SUCCEEDED, result=b"one")
    first = await hot.call("/run/thumb", b"x", idempotency_key="k")
    identity = InvocationId(first.headers["tidemill-invocation-id"])
    [event] = hot.log.events
    assert event.service is not None
    hot.rows.rows[identity] = InvocationRow(
        id=identity, service=event.service, requested_at=NOW, position=3, phase=Phase.SUCCEEDED, result=b"one"
    )
    again = await hot.call("/run/thumb", b"x", idempotency_key="k")
    assert (again.status, again.body) == (200, b"one")
    assert len(hot.log.events) == 1


async def test_a_worker_that_is_not_waited_for_disturbs_nobody() -> None:
    hot = Hot()
    record = InvocationChanged.model_validate(
        {"invocation_id": "other", "service": "thumb", "change": "succeeded", "at": NOW}
    )
    hot.replies.settle(record)
    started = record.model_copy(update={"change": Change.STARTED})
    with hot.replies.expect(record.invocation_id) as reply:
        hot.replies.settle(started)
        assert not reply.done()
        hot.replies.settle(record)
        hot.replies.settle(record)
        assert reply.result() is record
