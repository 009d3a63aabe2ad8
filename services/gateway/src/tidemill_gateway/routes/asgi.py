"""The little of HTTP that the hot routes need, on bare ASGI: a body with a limit, an answer in two messages."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from starlette.types import Receive, Scope, Send

from tidemill_common.errors import TransientError

Headers = list[tuple[bytes, bytes]]

CORS: Final[Headers] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Location, Retry-After, Tidemill-Invocation-Id, X-Duration-Seconds"),
]
EMPTY: Final[Headers] = [*CORS, (b"content-length", b"0")]
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class BodyTooLargeError(Exception):
    """The request's body is longer than allowed."""


class DisconnectedError(Exception):
    """The caller went away before the body was whole."""


async def read_body(receive: Receive, declared: bytes | None, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: It is, or says it is, longer than `limit` bytes.
        DisconnectedError: The caller went away.
    """
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise BodyTooLargeError
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= limit else _too_large()
    return await _read_chunks(receive, message, limit)


async def _read_chunks(receive: Receive, message: Any, limit: int) -> bytes:
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large() -> NoReturn:
    raise BodyTooLargeError


async def answer(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a complete answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_text(send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    """Send a text."""
    body = text.encode()
    length = (b"content-length", b"%d" % len(body))
    await answer(send, status, [*CORS, _TEXT, length, *more], body)


async def not_found(send: Send) -> None:
    """Unknown route or wrong method, in OSCAR's words."""
    await answer_text(send, 404, "404 page not found")


def retry_after(error: TransientError) -> bytes:
    """The header's value: whole seconds, at least 1."""
    hint = error.retry_after.total_seconds() if error.retry_after else 1.0
    return b"%d" % max(1, round(hint))


def header_map(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by lower-case name; the last of equal names."""
    return dict(scope["headers"])
