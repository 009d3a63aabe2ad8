"""A load generator that costs little itself: prebuilt HTTP/1.1 requests on a few kept connections."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


async def post_many(url: str, *, times: int, connections: int, headers: dict[str, str], body: bytes = b"") -> None:
    """POST the same body `times` times; each connection sends its next request when it has read its answer.

    Raises:
        AssertionError: An answer was not 2xx.
    """
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    assert parts.hostname is not None
    shares = [times // connections + (number < times % connections) for number in range(connections)]
    await asyncio.gather(*(_post(parts.hostname, parts.port or 80, request, share) for share in shares))


async def _post(host: str, port: int, request: bytes, times: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for _ in range(times):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 2"), head
            await reader.readexactly(_content_length(head))
    finally:
        writer.close()
        await writer.wait_closed()


def _content_length(head: bytes) -> int:
    """Of an answer's body; these answers are never chunked."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
