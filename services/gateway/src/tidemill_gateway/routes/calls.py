"""`/job/{name}` and `/run/{name}` as plain ASGI: the routes that must be fast (OSCAR contract 1.14, 1.15 and 7)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from starlette.types import Receive, Scope, Send

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason
from tidemill_common.contracts.service import Service
from tidemill_common.errors import NotFoundError, TransientError
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.calls import Calls, Replies, TooManyCallsError
from tidemill_gateway.domain.acceptance import Call, Identified
from tidemill_gateway.domain.fold import terminal_record
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.metrics import Metrics, Outcome
from tidemill_gateway.ports import PayloadStore, Services
from tidemill_gateway.routes import asgi
from tidemill_gateway.settings import Calls as CallSettings

log = structlog.get_logger(__name__)

_TOKEN_LENGTH: Final = 64
_OUTCOMES: Final = {
    200: Outcome.ANSWERED,
    201: Outcome.ACCEPTED,
    401: Outcome.REFUSED,
    408: Outcome.FAILED,
    413: Outcome.TOO_LARGE,
    429: Outcome.THROTTLED,
    500: Outcome.FAILED,
    503: Outcome.UNAVAILABLE,
    504: Outcome.TIMEOUT,
}


@dataclass(slots=True)
class Exchange:
    """One request, and what is to be remembered of it."""

    route: str
    name: str
    scope: Scope
    receive: Receive
    send: Send
    headers: dict[bytes, bytes]
    started: float
    status: int = 0
    user: str | None = None
    address: str | None = None

    async def answer(self, status: int, headers: asgi.Headers, body: bytes = b"") -> None:
        """Send the answer, once."""
        self.status = status
        await asgi.answer(self.send, status, headers, body)

    async def answer_text(self, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
        """Send a text, once."""
        self.status = status
        await asgi.answer_text(self.send, status, text, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRoutes:
    """Both routes with all they need."""

    services: Services
    calls: Calls
    replies: Replies
    payloads: PayloadStore
    queries: InvocationQueries
    settings: CallSettings
    access_log: AccessLog
    metrics: Metrics

    async def job(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a call; 201 as soon as the bus has it."""
        exchange = Exchange("job", name, scope, receive, send, asgi.header_map(scope), time.perf_counter())
        if scope["method"] not in ("POST", "HEAD"):
            await asgi.not_found(send)
            return
        await self._guarded(exchange, self._job(exchange))

    async def run(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a call and answer with its result."""
        exchange = Exchange("run", name, scope, receive, send, asgi.header_map(scope), time.perf_counter())
        if scope["method"] not in ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD"):
            await asgi.not_found(send)
            return
        await self._guarded(exchange, self._run(exchange))

    async def _guarded(self, exchange: Exchange, work: Awaitable[None]) -> None:
        try:
            await work
        except asgi.BodyTooLargeError:
            await exchange.answer(413, asgi.EMPTY)
        except asgi.DisconnectedError:
            return
        except TooManyCallsError as error:
            await exchange.answer_text(429, str(error), (b"retry-after", asgi.retry_after(error)))
        except TransientError as error:
            await exchange.answer_text(503, str(error), (b"retry-after", asgi.retry_after(error)))
        except Exception:  # an adapter's edge: the caller gets 500, the operator the traceback
            log.exception("call failed", route=exchange.route, service=exchange.name)
            if not exchange.status:
                await exchange.answer_text(500, "internal error")
        finally:
            self._remember(exchange)

    def _remember(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started
        self.metrics.called(exchange.route, _OUTCOMES.get(exchange.status, Outcome.DISCONNECTED), seconds)
        if exchange.status and exchange.scope["method"] == "POST":
            client = exchange.address or (exchange.scope.get("client") or ("",))[0]
            path = exchange.scope["path"]
            self.access_log.add(time.time(), exchange.status, seconds, client, "POST", path, exchange.user)

    def _authorised(self, exchange: Exchange) -> Service | None:
        authorization = exchange.headers.get(b"authorization", b"")
        if authorization[:7].lower() != b"bearer ":
            return None
        token = authorization[7:].strip()
        if len(token) != _TOKEN_LENGTH:
            return None
        return self.services.service_of_token(exchange.name, token.decode("latin-1"))

    async def _call(self, exchange: Exchange) -> Identified | None:
        """The call of this request; None: it is answered already."""
        service = self._authorised(exchange)
        if service is None:
            await exchange.answer(401, asgi.EMPTY)
            return None
        if exchange.scope["method"] == "HEAD":
            await exchange.answer(200, asgi.EMPTY)
            return None
        headers = exchange.headers
        limit = self.settings.body_limit_bytes
        body = await asgi.read_body(exchange.receive, headers.get(b"content-length"), limit)
        content_type = headers.get(b"content-type")
        key = headers.get(b"idempotency-key") or headers.get(b"x-delegated-job-id")
        call = Call(
            service,
            body,
            content_type.decode("latin-1") if content_type else None,
            key.decode("latin-1") if key else None,
        )
        return self.calls.identify(call)

    async def _job(self, exchange: Exchange) -> None:
        identified = await self._call(exchange)
        if identified is None:
            return
        accepted = await self.calls.accept(identified)
        exchange.user, exchange.address = accepted.user, accepted.address
        await exchange.answer(201, [*asgi.EMPTY, *_named(accepted.invocation)])

    async def _run(self, exchange: Exchange) -> None:
        timeout = self._timeout(exchange)
        identified = await self._call(exchange)
        if identified is None:
            return
        with self.replies.expect(identified.invocation, exchange.name) as reply:
            accepted = await self.calls.accept(
                identified,
                lane=Lane.INTERACTIVE,
                deadline=datetime.now(UTC) + timedelta(seconds=timeout),
                reply_to=self.replies.subject(identified.invocation),
            )
            exchange.user, exchange.address = accepted.user, accepted.address
            if accepted.repeated and (known := await self._ended(identified)) is not None:
                await self._answer(exchange, known)
            else:
                await self._wait(exchange, identified, reply, timeout)

    async def _ended(self, identified: Identified) -> InvocationChanged | None:
        """The end of an Invocation that an earlier call asked for."""
        try:
            row = await self.queries.get(identified.invocation)
        except NotFoundError:
            return None
        return terminal_record(row) if row.is_terminal else None

    async def _wait(
        self,
        exchange: Exchange,
        identified: Identified,
        reply: asyncio.Future[InvocationChanged],
        timeout: float,
    ) -> None:
        gone = asyncio.ensure_future(_disconnected(exchange.receive))
        try:
            waiting: set[asyncio.Future[Any]] = {reply, gone}
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                await self._answer(exchange, reply.result())
            elif gone.done():
                await self.calls.abandon(identified, Reason.CANCELLED, "the caller went away")
            else:
                await self._abandon_late(exchange, identified)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _abandon_late(self, exchange: Exchange, identified: Identified) -> None:
        with contextlib.suppress(TransientError):  # the Worker knows the deadline as well
            await self.calls.abandon(identified, Reason.DEADLINE_PASSED, "no result within the caller's time")
        await exchange.answer_text(504, "no result in time", *_named(identified.invocation))

    async def _answer(self, exchange: Exchange, record: InvocationChanged) -> None:
        body = record.result
        if record.result_ref is not None:
            body = await self.payloads.get(record.result_ref)
        if body is None:
            body = (record.log_tail or record.message or "").encode()
        content_type = exchange.headers.get(b"content-type", b"text/plain; charset=utf-8")
        headers = [
            *asgi.CORS,
            (b"content-length", b"%d" % len(body)),
            (b"content-type", content_type),
            (b"x-duration-seconds", b"%.6f" % (time.perf_counter() - exchange.started)),
            *_named(record.invocation_id),
        ]
        await exchange.answer(_status(record), headers, body)

    def _timeout(self, exchange: Exchange) -> float:
        """Seconds: what the caller asks for, within what is allowed."""
        asked = exchange.headers.get(b"tidemill-timeout", b"").decode("latin-1")
        if not asked and b"timeout=" in exchange.scope["query_string"]:
            asked = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("timeout", [""])[-1]
        try:
            seconds = float(asked) if asked else self.settings.timeout.total_seconds()
        except ValueError:
            seconds = self.settings.timeout.total_seconds()
        if not math.isfinite(seconds) or seconds <= 0:
            seconds = self.settings.timeout.total_seconds()
        return min(seconds, self.settings.longest_timeout.total_seconds())


def _named(invocation: InvocationId) -> asgi.Headers:
    encoded = invocation.encode()
    return [(b"location", b"/v1/invocations/" + encoded), (b"tidemill-invocation-id", encoded)]


def _status(record: InvocationChanged) -> int:
    if record.change is Change.SUCCEEDED:
        return 200
    if record.reason is Reason.DEADLINE_PASSED:
        return 504
    return 408 if record.reason is Reason.TIMEOUT else 500


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
