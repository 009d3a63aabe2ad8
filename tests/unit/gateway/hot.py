"""The hot routes without a server: a log that keeps what it is given, and one ASGI call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

from tidemill_common.contracts.contract import Contract, ServiceName, Subject
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import InvocationChanged
from tidemill_common.contracts.service import Service, StorageIO
from tidemill_common.errors import NotFoundError
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.calls import Calls, Replies
from tidemill_gateway.dispatch import Dispatcher
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.payloads import MemoryPayloads
from tidemill_gateway.routes.calls import CallRoutes
from tidemill_gateway.settings import Calls as CallSettings

TOKEN = "ab" * 32
SERVICE = Service(name=ServiceName("thumb"), image="busybox", script="true", input=(StorageIO(path="photos/in"),))


@dataclass
class Answer:
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class KeepingLog:
    """Keeps what is appended; deduplicates as a bus does; fails when told to."""

    events: list[EventReceived] = field(default_factory=list)
    changes: list[InvocationChanged] = field(default_factory=list)
    failure: Exception | None = None
    appended: Callable[[Contract], None] = lambda _: None
    known: set[str] = field(default_factory=set)

    async def append(
        self, subject: Subject[Any], body: Contract, *, key: str, message_id: str | None = None
    ) -> int | None:
        """Keep it."""
        if self.failure is not None:
            raise self.failure
        assert subject.at(key)
        if message_id in self.known:
            return None
        self.known.add(message_id or "")
        if isinstance(body, EventReceived):
            self.events.append(EventReceived.decode(body.encode()))  # as it travels
        elif isinstance(body, InvocationChanged):
            self.changes.append(InvocationChanged.decode(body.encode()))
        self.appended(body)
        return len(self.known)


class SilentLive:
    """Nobody answers on it."""

    async def publish(self, subject: str, body: bytes) -> None:
        """Nobody listens."""

    @asynccontextmanager
    async def subscribe(self, subject: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Nothing comes."""

        async def nothing() -> AsyncIterator[tuple[str, bytes]]:
            await asyncio.Event().wait()
            yield "", b""

        yield nothing()


@dataclass
class OneService:
    """The Service above, and nothing else."""

    service: Service = SERVICE

    def service_of_token(self, name: str, token: str) -> Service | None:
        """It, for its token."""
        return self.service if (name, token) == (self.service.name, TOKEN) else None

    def get_cached(self, name: str) -> Service | None:
        """It."""
        return self.service if name == self.service.name else None


@dataclass
class KnownRows:
    """Rows by id, as SQL would have them."""

    rows: dict[str, InvocationRow] = field(default_factory=dict)

    async def get(self, invocation: str) -> InvocationRow:
        """One of them."""
        if invocation not in self.rows:
            raise NotFoundError(invocation)
        return self.rows[invocation]


async def no_management(scope: Any, receive: Any, send: Any) -> None:
    """Answers 418, so that a test sees that it was asked."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@dataclass
class Hot:
    """The dispatcher with its parts."""

    log: KeepingLog = field(default_factory=KeepingLog)
    payloads: MemoryPayloads = field(default_factory=MemoryPayloads)
    access_log: AccessLog = field(default_factory=lambda: AccessLog(10))
    rows: KnownRows = field(default_factory=KnownRows)
    settings: CallSettings = field(default_factory=lambda: CallSettings(body_limit_bytes=100_000))
    replies: Replies = field(init=False)
    app: ASGIApp = field(init=False)

    def __post_init__(self) -> None:
        self.replies = Replies(
            SilentLive(), "gw1", limit=self.settings.waiting, service_limit=self.settings.waiting_per_service
        )
        routes = CallRoutes(
            services=OneService(),
            calls=Calls(
                bus_log=self.log,  # type: ignore[arg-type]  # only `append` is used
                payloads=self.payloads,
                inline_limit_bytes=self.settings.inline_limit_bytes,
            ),
            replies=self.replies,
            payloads=self.payloads,
            queries=self.rows,  # type: ignore[arg-type]  # only `get` is used
            settings=self.settings,
            access_log=self.access_log,
            metrics=Metrics(),
        )
        self.app = Dispatcher(routes, no_management)

    async def call(
        self,
        path: str,
        body: bytes | tuple[bytes, ...] = b"",
        *,
        method: str = "POST",
        token: str | None = TOKEN,
        disconnect: asyncio.Event | None = None,
        more: Mapping[str, str] | None = None,
        **headers: str,
    ) -> Answer:
        """One request; `body` as a tuple comes in chunks."""
        path, _, query = path.partition("?")
        given = {name.replace("_", "-"): value for name, value in {**headers, **(more or {})}.items()}
        if token is not None:
            given.setdefault("authorization", f"Bearer {token}")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("10.0.0.9", 1),
        }
        chunks = list(body) if isinstance(body, tuple) else [body]
        sent: list[Message] = []

        async def receive() -> Message:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            await (disconnect or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return Answer(0, {}, b"")
        names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))
