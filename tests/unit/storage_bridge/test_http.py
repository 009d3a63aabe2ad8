"""What senders are answered, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tidemill_common.contracts.event import EventReceived
from tidemill_common.errors import InvalidInputError, ThrottledError, UnavailableError
from tidemill_storage_bridge.ports import Publish
from tidemill_storage_bridge.serving import BridgeHttp
from tidemill_storage_bridge.sources.http import LARGEST_BODY, HttpSource
from tidemill_storage_bridge.sources.reading import Origin
from tidemill_storage_bridge.sources.tokens import Tokens

SAMPLES = Path(__file__).parents[2] / "contract" / "sources" / "samples"
PUT = (SAMPLES / "minio-put.json").read_bytes()
TOKEN = {"authorization": "Bearer secret"}


class Bus:
    """Publishes into a list, or fails."""

    def __init__(self) -> None:
        self.events: list[EventReceived] = []
        self.failure: Exception | None = None

    async def publish(self, event: EventReceived) -> bool:
        if self.failure is not None:
            raise self.failure
        self.events.append(event)
        return True


@asynccontextmanager
async def serving(publish: Publish, of: type[HttpSource] = HttpSource) -> AsyncIterator[httpx.AsyncClient]:
    source = of(Tokens({"secret": Origin(name="lab", provider="minio.lab")}))
    stopping = asyncio.Event()
    task = asyncio.create_task(source.run(publish, stopping))
    transport = httpx.ASGITransport(app=BridgeHttp(source, is_ready=lambda: True))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge") as client:
            await asyncio.sleep(0)
            yield client
    finally:
        stopping.set()
        await task


@pytest.fixture
def bus() -> Bus:
    return Bus()


async def test_a_notification_is_answered_200_with_its_events_stored(bus: Bus) -> None:
    async with serving(bus.publish) as client:
        answer = await client.post("/events/lab", content=PUT, headers=TOKEN)
    assert answer.status_code == 200
    assert answer.json() == {"events": 1, "new": 1}
    (event,) = bus.events
    assert event.artifact is not None
    assert (event.artifact.provider, event.artifact.key) == ("minio.lab", "in/a b+ü.txt")


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, "/events", 401),
        ({"authorization": "Bearer wrong"}, "/events", 401),
        ({"authorization": "Basic secret"}, "/events", 401),
        (TOKEN, "/events/other", 403),
        (TOKEN, "/elsewhere", 404),
        (TOKEN, "/events", 200),
        ({}, "/events?access_token=secret", 200),
    ],
)
async def test_only_the_right_token_may_send(bus: Bus, headers: dict[str, str], path: str, status: int) -> None:
    async with serving(bus.publish) as client:
        answer = await client.post(path, content=PUT, headers=headers)
    assert answer.status_code == status
    assert bool(bus.events) == (status == 200)


async def test_a_bad_record_is_a_problem_that_says_where_and_nothing_is_half_done(bus: Bus) -> None:
    document = json.loads((SAMPLES / "aws-several-records.json").read_bytes())
    del document["Records"][2]["s3"]["bucket"]
    async with serving(bus.publish) as client:
        answer = await client.post("/events", json=document, headers=TOKEN)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Records.2.s3.bucket" in answer.json()["detail"]
    assert bus.events == []


@pytest.mark.parametrize(
    ("failure", "retry_after"),
    [(UnavailableError("away"), "1"), (ThrottledError("full", retry_after=timedelta(seconds=4.2)), "5")],
)
async def test_without_the_buss_acknowledgement_the_sender_is_asked_to_repeat(
    bus: Bus, failure: Exception, retry_after: str
) -> None:
    bus.failure = failure
    async with serving(bus.publish) as client:
        answer = await client.post("/events", content=PUT, headers=TOKEN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, retry_after)


async def test_the_answer_waits_for_every_acknowledgement() -> None:
    acknowledged = asyncio.Event()

    async def slow(event: EventReceived) -> bool:
        await acknowledged.wait()
        return True

    async with serving(slow) as client:
        asking = asyncio.create_task(client.post("/events", content=PUT, headers=TOKEN))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not asking.done()
        acknowledged.set()
        assert (await asking).status_code == 200


async def test_a_source_that_answers_first_is_caught() -> None:
    """The negative control: what the chaos test must notice. It turns the order of effects round."""

    class AnswersFirst(HttpSource):
        async def _store(self, events: Sequence[EventReceived]) -> int:
            self.late = asyncio.create_task(super()._store(events))
            return len(events)

    async def away(event: EventReceived) -> bool:
        raise UnavailableError("away")

    async with serving(away, AnswersFirst) as client:
        assert (await client.post("/events", content=PUT, headers=TOKEN)).status_code == 200
    async with serving(away) as client:
        assert (await client.post("/events", content=PUT, headers=TOKEN)).status_code == 503


async def test_too_large_a_body_is_refused(bus: Bus) -> None:
    async with serving(bus.publish) as client:
        answer = await client.post("/events", content=b" " * (LARGEST_BODY + 1), headers=TOKEN)
    assert answer.status_code == 413


async def test_senders_may_ask_before_they_send(bus: Bus) -> None:
    async with serving(bus.publish) as client:
        assert (await client.head("/events")).status_code == 200
        answer = await client.options("/events", headers={"webhook-request-origin": "lab.example"})
    assert (answer.status_code, answer.headers["webhook-allowed-origin"]) == (200, "lab.example")


async def test_health_and_metrics_are_answered(bus: Bus) -> None:
    async with serving(bus.publish) as client:
        assert (await client.get("/health")).text == "Ok"
        assert "tidemill_bridge_events_received_total" in (await client.get("/metrics")).text


def test_a_tokens_file_may_name_the_provider(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text('{"a": "lab", "b": {"source": "store", "provider": "s3.two"}}')
    tokens = Tokens.read(file)
    assert tokens.origin("a") == Origin(name="lab", provider="minio.default")
    assert tokens.origin("b") == Origin(name="store", provider="s3.two")
    assert tokens.origin("c") is None
    assert Tokens.read(None).origin("") is None


def test_a_wrong_tokens_file_stops_the_start_without_showing_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text('{"very-secret": 3}')
    with pytest.raises(InvalidInputError, match="entry 1") as raised:
        Tokens.read(file)
    assert "very-secret" not in str(raised.value)
