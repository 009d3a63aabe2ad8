"""Notifications by HTTP: S3 dialects and CloudEvents, as one plain ASGI application.

A request is parsed whole before anything is stored, and answered 2xx only when the bus has acknowledged every Event
of it; so a sender that repeats what was not answered loses nothing, and what it repeats is recognised by its ids.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs

import structlog

from tidemill_common.contracts.event import EventReceived
from tidemill_common.errors import InvalidMessageError, PermanentError, TransientError, UnavailableError
from tidemill_storage_bridge.metrics import EVENTS_INVALID
from tidemill_storage_bridge.ports import Clock, Publish, utc_now
from tidemill_storage_bridge.sources.cloudevents import is_cloudevent, parse_cloudevents
from tidemill_storage_bridge.sources.reading import Origin, parse_json
from tidemill_storage_bridge.sources.s3_notifications import parse_notification
from tidemill_storage_bridge.sources.tokens import Tokens

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST_BODY: Final = 1024 * 1024
_RETRY_AFTER: Final = timedelta(seconds=1)
_PATH: Final = "/events"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that is not taken, as an RFC 9457 problem."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        self.answer = Answer(
            status=status,
            body=json.dumps(problem).encode(),
            headers={"content-type": "application/problem+json"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )


class HttpSource:
    """The Source, and the ASGI application of `/events` and `/events/{source}`."""

    name = "http"

    def __init__(self, tokens: Tokens, *, now: Clock = utc_now) -> None:
        self._tokens = tokens
        self._now = now
        self._publish: Publish | None = None

    async def run(self, publish: Publish, stopping: asyncio.Event) -> None:
        """Take notifications until `stopping`; before and after, requests are answered 503."""
        self._publish = publish
        try:
            await stopping.wait()
        finally:
            self._publish = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive)
        except RefusedError as refusal:
            answer = refusal.answer
        await respond(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        wanted = _wanted_source(scope["path"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        match scope["method"]:
            case "POST":
                origin = self._authenticate(scope, headers, wanted)
                return await self._take(headers, await _body(receive), origin)
            case "OPTIONS":
                return _handshake(headers)
            case "HEAD" | "GET":  # RustFS asks whether we are there
                return Answer(status=200)
            case _:
                raise RefusedError(405, "Method not allowed", "send notifications by POST", allow="POST, OPTIONS, HEAD")

    def _authenticate(self, scope: Scope, headers: dict[str, str], wanted: str | None) -> Origin:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = parse_qs(scope["query_string"].decode("latin-1")).get("access_token", [""])[0]
        origin = self._tokens.origin(token.strip()) if token else None
        if origin is None:
            raise RefusedError(401, "Unauthorized", "no such bearer token", www_authenticate="Bearer")
        if wanted is not None and wanted != origin.name:
            raise RefusedError(403, "Forbidden", f"this token is not of source {wanted!r}")
        return origin

    async def _take(self, headers: dict[str, str], body: bytes, origin: Origin) -> Answer:
        try:
            events = self._parse(headers, body, origin)
            new = await self._store(events)
        except InvalidMessageError as error:
            EVENTS_INVALID.labels(self.name).inc()
            _log.warning("notification not understood", source=origin.name, error=str(error))
            raise RefusedError(400, "Not a notification", str(error)) from error
        except TransientError as error:
            _log.warning("notification not stored", source=origin.name, error=str(error))
            seconds = math.ceil((error.retry_after or _RETRY_AFTER).total_seconds())
            raise RefusedError(503, "Try again", str(error), retry_after=str(seconds)) from error
        except PermanentError as error:
            _log.error("notification cannot be stored", source=origin.name, error=str(error))
            raise RefusedError(422, "Cannot be stored", str(error)) from error
        told = json.dumps({"events": len(events), "new": new}).encode()
        return Answer(status=200, body=told, headers={"content-type": "application/json"})

    def _parse(self, headers: dict[str, str], body: bytes, origin: Origin) -> list[EventReceived]:
        try:
            if is_cloudevent(headers):
                return parse_cloudevents(headers, body, origin, received=self._now())
            return parse_notification(parse_json(body), origin)
        except ValueError as error:  # the contract's own checks
            raise InvalidMessageError(f"body: {error}") from error

    async def _store(self, events: Sequence[EventReceived]) -> int:
        """Publish all and return how many were new; only then may the sender hear of success."""
        publish = self._publish
        if publish is None:
            raise UnavailableError("not taking notifications now (starting or stopping)")
        outcomes = await asyncio.gather(*(publish(event) for event in events), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return sum(outcome is True for outcome in outcomes)


async def respond(send: Send, answer: Answer) -> None:
    """Send a response whole."""
    headers = {"content-length": str(len(answer.body))} | answer.headers
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})


def _wanted_source(path: str) -> str | None:
    """The source in `/events/{source}`; None: the token tells."""
    if path.rstrip("/") == _PATH:
        return None
    name = path.removeprefix(f"{_PATH}/")
    if name == path or "/" in name:
        raise RefusedError(404, "Not found", f"notifications go to {_PATH}")
    return name


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "Incomplete", "the request ended before its body")
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise RefusedError(413, "Too large", f"a notification has at most {LARGEST_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _handshake(headers: dict[str, str]) -> Answer:
    """CloudEvents webhooks ask before they send: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md"""
    allowed = {"allow": "POST, OPTIONS, HEAD"}
    if origin := headers.get("webhook-request-origin"):
        allowed |= {"webhook-allowed-origin": origin, "webhook-allowed-rate": headers.get("webhook-request-rate", "*")}
    return Answer(status=200, headers=allowed)
