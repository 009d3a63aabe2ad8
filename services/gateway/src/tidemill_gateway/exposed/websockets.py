"""One WebSocket passed on: messages both ways as they come, and the end of either side told to the other."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType
from starlette.types import Receive, Scope, Send

from tidemill_gateway.exposed.forwarding import RawHeaders

_NOT_SENDABLE: Final = {1005: 1000, 1006: 1011, 1015: 1011}
"""Codes that say how a connection ended, and may not be sent: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1"""


class Refusal(Exception):  # noqa: N818 - an answer, no fault
    """The request is answered by the gateway itself."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer the handshake with a status, where the server can; else it is 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    body = refusal.text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send(
        {
            "type": "websocket.http.response.start",
            "status": refusal.status,
            "headers": [*headers, *refusal.headers],
        }
    )
    await send({"type": "websocket.http.response.body", "body": body})


async def relay(upstream: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send, headers: RawHeaders) -> None:
    """Accept the client, and pass messages on until one side ends."""
    await send({"type": "websocket.accept", "subprotocol": upstream.protocol, "headers": headers})
    outward = asyncio.ensure_future(_to_client(upstream, send))
    inward = asyncio.ensure_future(_to_instance(upstream, receive))
    try:
        await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (outward, inward):
            task.cancel()
        await asyncio.gather(outward, inward, return_exceptions=True)


async def _to_client(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    while True:
        message = await upstream.receive()
        if message.type is WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            await send({"type": "websocket.close", "code": _code(upstream.close_code), "reason": _reason(message)})
            return


async def _to_instance(upstream: aiohttp.ClientWebSocketResponse, receive: Receive) -> None:
    while True:
        message: Any = await receive()
        if message["type"] == "websocket.disconnect":
            reason = str(message.get("reason") or "").encode()[:120]
            await upstream.close(code=_code(message.get("code")), message=reason)
            return
        if (text := message.get("text")) is not None:
            await upstream.send_str(text)
        else:
            await upstream.send_bytes(message["bytes"])


def _code(code: int | None) -> int:
    if code is None:
        return 1011
    return _NOT_SENDABLE.get(code, code)


def _reason(message: aiohttp.WSMessage) -> str:
    return message.extra if message.type is WSMsgType.CLOSE and isinstance(message.extra, str) else ""
