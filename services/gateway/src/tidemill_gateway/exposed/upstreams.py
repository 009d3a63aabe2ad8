"""Connections to instances of exposed Services: bodies are passed on as they come, and nobody waits for a whole one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from starlette.types import Receive, Send
from yarl import URL

from tidemill_common.errors import UnavailableError
from tidemill_gateway.exposed.forwarding import RawHeaders, response_headers

_CONNECT_SECONDS: Final = 5.0
_HEADER_BYTES: Final = 64 * 1024
_NO_OWN_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_WITHOUT_BODY: Final = frozenset((204, 304))


class ConnectError(UnavailableError):
    """Nobody took the request: it may go to another instance."""


class BrokenError(UnavailableError):
    """The instance took the request, and ended the connection before it answered."""


class _GoneError(Exception):
    """The client went away."""


@dataclass(slots=True)
class Body:
    """What the client sends, for one reader; tells when the client is gone."""

    receive: Receive
    is_expected: bool
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """No more of it will be read here: it is whole, or the client is gone."""
    is_gone: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                self.ended.set()
                raise _GoneError
            if chunk := message.get("body", b""):
                yield chunk
            if not message.get("more_body"):
                self.ended.set()
                return

    async def client_left(self) -> None:
        """Return when the client is gone."""
        if self.is_expected:
            await self.ended.wait()
        while not self.is_gone:
            self.is_gone = (await self.receive())["type"] == "http.disconnect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """A request as the instance gets it."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]


class Upstreams:
    """All connections to instances; opened when the first is needed."""

    def __init__(self) -> None:
        self._kept: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        for session in (self._kept, self._single):
            if session is not None:
                await session.close()

    async def exchange(self, url: str, request: Forwarded, body: Body, send: Send, *, add: RawHeaders) -> None:
        """Pass a request on, and its answer back. Ends as well when the client goes away.

        Raises:
            ConnectError: Nothing was sent; try another instance.
            BrokenError: It may have been handled; nothing was answered.
        """
        relay = asyncio.ensure_future(self._relay(url, request, body, send, add))
        left = asyncio.ensure_future(body.client_left())
        try:
            await asyncio.wait({relay, left}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
        finally:
            for task in (relay, left):
                task.cancel()
            await asyncio.gather(relay, left, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def websocket(
        self, url: str, headers: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket to an instance.

        Raises:
            ConnectError: Nobody took it.
            aiohttp.WSServerHandshakeError: The instance refuses, with a status.
        """
        try:
            socket = await self._session(is_kept=False).ws_connect(
                URL(url, encoded=True),
                headers=headers,
                protocols=protocols,
                max_msg_size=0,
                autoclose=False,
            )
        except aiohttp.WSServerHandshakeError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectError(f"connect to {url}: {error}") from error
        try:
            yield socket
        finally:
            await socket.close()

    async def _relay(self, url: str, request: Forwarded, body: Body, send: Send, add: RawHeaders) -> None:
        started = False
        try:
            async with self._session(is_kept=request.method in _SAFE and not body.is_expected).request(
                request.method,
                URL(url + request.target, encoded=True),
                headers=request.headers,
                data=body.chunks() if body.is_expected else None,
                allow_redirects=False,
                skip_auto_headers=_NO_OWN_HEADERS,
            ) as answer:
                await send(_beginning(answer, add))
                started = True
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except aiohttp.ClientConnectorError as error:
            raise ConnectError(f"connect to {url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not started and not body.is_gone:
                raise BrokenError(f"{url}: {error}") from error
            # half an answer is there: without its end the server closes the connection, and the client sees that

    def _session(self, *, is_kept: bool) -> aiohttp.ClientSession:
        """Connections are kept for requests that may be sent twice: a kept one may be closed just when it is used."""
        if is_kept:
            self._kept = self._kept or _open(is_kept=True)
            return self._kept
        self._single = self._single or _open(is_kept=False)
        return self._single


def _open(*, is_kept: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, force_close=not is_kept, ttl_dns_cache=10)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        max_line_size=_HEADER_BYTES,
        max_field_size=_HEADER_BYTES,
    )


def _beginning(answer: aiohttp.ClientResponse, add: RawHeaders) -> dict[str, object]:
    # the length of a body that is not there confuses the server
    drop = (b"content-length",) if answer.status in _WITHOUT_BODY else ()
    headers = response_headers(answer.raw_headers, drop=drop)
    return {"type": "http.response.start", "status": answer.status, "headers": [*headers, *add]}
