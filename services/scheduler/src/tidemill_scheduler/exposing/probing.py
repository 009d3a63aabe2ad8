"""One HTTP probe, as the kubelet does it: any status from 200 to 399 is success."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

_STATUS_LINE_BYTES: Final = 4096


async def answers(host: str, port: int, path: str, *, timeout: float) -> bool:
    """Whether a GET of `path` is answered well within `timeout` seconds."""
    with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        async with asyncio.timeout(timeout):
            return 200 <= await _status(host, port, path) < 400
    return False


async def _status(host: str, port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection(host, port, limit=_STATUS_LINE_BYTES)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: tidemill-probe\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        line = await reader.readline()
        return int(line.split(None, 2)[1]) if line.startswith(b"HTTP/") and len(line.split()) > 1 else 0
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
