"""`/job`: 201 means that the bus has it; the id tells calls apart, or together."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from tests.unit.gateway.hot import SERVICE, TOKEN, Hot
from tidemill_common.contracts.event import OBJECT_CREATED, Lane
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, invocation_id
from tidemill_common.errors import ThrottledError, UnavailableError


def notification(key: str = "in%2Fcat%2B1.png", event: str = "s3:ObjectCreated:Put", **stored: object) -> bytes:
    """What MinIO posts."""
    thing = {"key": key, "size": 12, "eTag": "e1", "sequencer": "0A"} | stored
    record = {
        "eventName": event,
        "eventSource": "minio:s3",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "requestParameters": {"principalId": "AK", "sourceIPAddress": "10.42.0.7"},
        "s3": {"bucket": {"name": "photos"}, "object": thing},
    }
    return json.dumps({"EventName": event, "Key": "photos/in/cat+1.png", "Records": [record]}).encode()


async def test_a_call_is_on_the_bus_before_it_is_answered() -> None:
    hot = Hot()
    answer = await hot.call("/job/thumb", b"\x00\xff any bytes", content_type="image/png")
    [event] = hot.log.events
    assert (answer.status, answer.body) == (201, b"")
    assert (event.service, event.data, event.data_content_type) == ("thumb", b"\x00\xff any bytes", "image/png")
    assert event.lane is Lane.BATCH
    expected = invocation_id(event.id, SERVICE.name, DIRECT_TRIGGER)
    assert answer.headers["tidemill-invocation-id"] == expected
    assert answer.headers["location"] == f"/v1/invocations/{expected}"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ThrottledError("full", retry_after=timedelta(seconds=3)), "3"),
        (UnavailableError("gone"), "1"),
    ],
)
async def test_a_bus_that_takes_nothing_is_503_with_retry_after(error: Exception, seconds: str) -> None:
    hot = Hot()
    hot.log.failure = error
    answer = await hot.call("/job/thumb", b"x")
    assert (answer.status, answer.headers["retry-after"]) == (503, seconds)


async def test_a_bug_is_500_and_says_nothing() -> None:
    hot = Hot()
    hot.log.failure = RuntimeError("secret detail")
    answer = await hot.call("/job/thumb", b"x")
    assert (answer.status, answer.body) == (500, b"internal error")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer short",
        f"Bearer {'c' * 64}",
        f"Basic {base64.b64encode(b'oscar:pw').decode()}",
    ],
)
async def test_anything_but_the_services_token_is_401(authorization: str) -> None:
    hot = Hot()
    answer = await hot.call("/job/thumb", b"x", token=None, authorization=authorization)
    assert (answer.status, answer.body, hot.log.events) == (401, b"", [])


async def test_an_unknown_service_is_401_as_in_oscar() -> None:
    assert (await Hot().call("/job/other", b"x")).status == 401


async def test_the_scheme_is_not_case_sensitive() -> None:
    assert (await Hot().call("/job/thumb", b"x", token=None, authorization=f"bearer {TOKEN}")).status == 201


async def test_the_same_idempotency_key_is_the_same_invocation() -> None:
    hot = Hot()
    first = await hot.call("/job/thumb", b"x", idempotency_key="k1")
    again = await hot.call("/job/thumb", b"x", idempotency_key="k1")
    other = await hot.call("/job/thumb", b"x", idempotency_key="k2")
    ids = [answer.headers["tidemill-invocation-id"] for answer in (first, again, other)]
    assert (first.status, again.status) == (201, 201)
    assert ids[0] == ids[1] != ids[2]
    assert len(hot.log.events) == 2


async def test_calls_without_a_key_are_different_invocations() -> None:
    hot = Hot()
    await hot.call("/job/thumb", b"x")
    await hot.call("/job/thumb", b"x")
    assert len({event.id for event in hot.log.events}) == 2


async def test_a_notification_becomes_an_event_of_its_object() -> None:
    hot = Hot()
    await hot.call("/job/thumb", notification())
    [event] = hot.log.events
    assert event.artifact is not None
    assert event.type == OBJECT_CREATED
    assert (event.artifact.provider, event.artifact.path) == ("minio.default", "photos/in/cat+1.png")
    assert (event.artifact.etag, event.artifact.size, event.subject) == ("e1", 12, "in/cat+1.png")
    assert (event.principal, event.service, event.data) == ("AK", "thumb", notification())


async def test_a_repeated_notification_runs_once_and_new_content_again() -> None:
    hot = Hot()
    for body in (notification(), notification(), notification(sequencer="0B")):
        assert (await hot.call("/job/thumb", body)).status == 201
    assert len(hot.log.events) == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"Records":[]}',
        b'{"Records":[{}]}',
        b'{"Records":{"s3":1}}',
        b'{"Records":[{"s3":{"object":{"key":5},"bucket":{"name":"b"}}}]}',
        b'["Records"]',
        b'not "Records" json',
        b'"Records"\xff',
        notification(event="s3:ObjectRemoved:Delete"),
    ],
)
async def test_other_bodies_that_look_like_notifications_are_just_payloads(body: bytes) -> None:
    hot = Hot()
    assert (await hot.call("/job/thumb", body)).status == 201
    assert (hot.log.events[0].artifact, hot.log.events[0].data) == (None, body)


async def test_a_large_body_travels_by_reference() -> None:
    hot = Hot()
    body = bytes(32 * 1024 + 1)
    assert (await hot.call("/job/thumb", (body[:10], body[10:]))).status == 201
    [event] = hot.log.events
    assert event.data is None
    assert event.data_ref is not None
    assert event.data_ref.path == f"tidemill/payloads/{event.id}"
    assert hot.payloads.bodies[event.data_ref.path] == body


@pytest.mark.parametrize("headers", [{}, {"content_length": "100001"}])
async def test_a_body_beyond_the_limit_is_413(headers: dict[str, str]) -> None:
    hot = Hot()
    answer = await hot.call("/job/thumb", (bytes(60_000), bytes(40_001)), more=headers)
    assert (answer.status, hot.log.events) == (413, [])


async def test_a_caller_who_leaves_before_the_end_of_the_body_calls_nothing() -> None:
    hot = Hot()

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/job/thumb", "headers": headers}

    async def send(_: object) -> None:
        raise AssertionError("nobody listens")

    await hot.app(scope, receive, send)
    assert hot.log.events == []


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), (None, 401)])
async def test_a_head_probe_calls_nothing(token: str | None, status: int) -> None:
    hot = Hot()
    assert (await hot.call("/job/thumb", method="HEAD", token=token)).status == status
    assert hot.log.events == []


@pytest.mark.parametrize("path", ["/job/thumb/", "/job/thumb"])
async def test_a_trailing_slash_makes_no_difference(path: str) -> None:
    assert (await Hot().call(path, b"x")).status == 201


@pytest.mark.parametrize(("method", "path"), [("GET", "/job/thumb"), ("POST", "/job/"), ("POST", "/job/a/b")])
async def test_unknown_routes_are_404_with_oscars_text(method: str, path: str) -> None:
    answer = await Hot().call(path, method=method)
    assert (answer.status, answer.body) == (404, b"404 page not found")


async def test_browsers_may_send_credentials() -> None:
    answer = await Hot().call(
        "/job/thumb", method="OPTIONS", token=None, access_control_request_headers="authorization,content-type"
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_everything_else_is_managements_without_the_trailing_slash() -> None:
    hot = Hot()
    assert (await hot.call("/system/config/", method="GET")).body == b"/system/config"
    assert (await hot.call("/ui/", method="GET")).body == b"/ui/"


async def test_calls_are_remembered_for_oscars_log() -> None:
    hot = Hot()
    await hot.call("/job/thumb", b"x")
    await hot.call("/job/thumb", notification())
    plain, stored = hot.access_log.entries()
    assert (plain.status, plain.client, plain.path, plain.user) == (201, "10.0.0.9", "/job/thumb", None)
    assert (stored.client, stored.user) == ("10.42.0.7", "AK")
