"""The HTTP server of the process: notifications, `/health` and `/metrics`, in our own lifecycle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tidemill_storage_bridge.sources.http import Answer, HttpSource, Receive, Scope, Send, respond


class BridgeHttp:
    """The ASGI application."""

    def __init__(self, events: HttpSource | None, *, is_ready: Callable[[], bool]) -> None:
        self._events = events
        self._is_ready = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == "/health":
            ready = self._is_ready()
            await respond(send, Answer(status=200 if ready else 503, body=b"Ok" if ready else b"Not ready"))
        elif path == "/metrics":
            await respond(
                send, Answer(status=200, body=generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})
            )
        elif self._events is not None:
            await self._events(scope, receive, send)
        else:
            await respond(send, Answer(status=404))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the component."""
        yield


@asynccontextmanager
async def serving(app: BridgeHttp, *, host: str, port: int, drain_timeout: timedelta) -> AsyncIterator[int]:
    """Serve while the body runs; then take no new requests and finish those in flight. Yields the port.

    Raises:
        OSError: The address is taken.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(drain_timeout.total_seconds()) or 1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
