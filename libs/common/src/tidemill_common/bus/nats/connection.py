"""Opens a connection that never gives up, and puts the port together over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
from nats import errors as library

from tidemill_common.bus import Bus, Capability
from tidemill_common.bus.nats.credentials import CredentialsFile
from tidemill_common.bus.nats.direct import DirectClient
from tidemill_common.bus.nats.faults import library_fault
from tidemill_common.bus.nats.live import NatsLive
from tidemill_common.bus.nats.log import NatsLog
from tidemill_common.bus.nats.queue import NatsWorkQueue
from tidemill_common.bus.nats.registers import NatsRegisters
from tidemill_common.bus.nats.streams import NatsStreams
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import AccessDeniedError, UnavailableError
from tidemill_common.settings import BusSettings

log = structlog.get_logger()

_RECONNECT_WAIT: Final = 0.25
_PENDING_BYTES: Final = 16 * 1024**2
_PING_INTERVAL: Final = 10


@asynccontextmanager
async def open_nats(settings: BusSettings, *, name: str, gathers: bool = False) -> AsyncIterator[Bus]:
    """The bus at `settings.url`. The Streams are not touched: see `bus.streams.ensure_streams`.

    Args:
        name: Shown by the server for this connection.
        gathers: See `open_bus`.

    Raises:
        UnavailableError: No server answers within `request_timeout`.
        AccessDeniedError: The server refuses our credentials, or the file has none.
    """
    client = DirectClient(gathers=gathers)
    wire = Wire(client, settings.request_timeout)
    await _connect(client, wire, settings, name)
    sweeper = asyncio.create_task(wire.sweep(), name="bus-sweeper")
    queue = NatsWorkQueue(wire, settings)
    try:
        await wire.start()
        yield Bus(
            log=NatsLog(wire),
            queue=queue,
            live=NatsLive(wire),
            registers=NatsRegisters(wire),
            streams=NatsStreams(wire, settings),
            capabilities=frozenset(Capability),
        )
    finally:
        await queue.close()
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        await client.close()


async def _connect(client: DirectClient, wire: Wire, settings: BusSettings, name: str) -> None:
    credentials = _credentials(settings)
    refused: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def reported(error: Exception) -> None:
        if "authorization" in str(error).lower() and not refused.done():
            refused.set_result(error)
        await wire.reported(error)

    async def disconnected() -> None:
        if not client.is_closed:  # nats-py also says so when we close it
            log.warning("bus connection lost", bus=name)
        await wire.disconnected()

    async def reconnected() -> None:
        log.info("bus connection back", bus=name)
        await wire.reconnected()

    connecting = asyncio.create_task(
        client.connect(
            servers=settings.url.split(","),
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_WAIT,  # type: ignore[arg-type]  # a float works, nats-py only sleeps it
            ping_interval=_PING_INTERVAL,
            max_outstanding_pings=2,
            pending_size=_PENDING_BYTES,
            error_cb=reported,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            closed_cb=wire.closed,
            **credentials,
        )
    )
    await asyncio.wait(
        (connecting, refused), timeout=settings.request_timeout.total_seconds(), return_when=asyncio.FIRST_COMPLETED
    )
    if connecting.done() and connecting.exception() is None:
        return
    await _give_up(client, connecting)
    if refused.done():
        raise AccessDeniedError(f"connect to {settings.url}: {refused.result()}") from refused.result()
    if connecting.done() and not connecting.cancelled() and (error := connecting.exception()) is not None:
        raise library_fault(error, f"connect to {settings.url}") from error
    raise UnavailableError(f"connect to {settings.url}: no answer in time")


async def _give_up(client: DirectClient, connecting: asyncio.Task[None]) -> None:
    connecting.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await connecting
    with suppress(Exception):
        await client.close()


def _credentials(settings: BusSettings) -> dict[str, Any]:
    if settings.credentials_file is not None:
        return _from_file(settings.credentials_file)
    if settings.user is None:
        return {}
    if settings.password_file is not None:
        password = settings.password_file.read_text().strip()
    else:
        password = settings.password.get_secret_value() if settings.password else ""
    return {"user": settings.user, "password": password}


def _from_file(path: Path) -> dict[str, Any]:
    file = CredentialsFile(path)
    try:
        prefix = file.read().inbox_prefix
    except OSError as error:
        raise UnavailableError(f"read {path}: {error}") from error
    except library.InvalidUserCredentialsError as error:
        raise AccessDeniedError(f"read {path}: {error.__cause__}") from error
    return {"user_jwt_cb": file.token, "signature_cb": file.signature, "inbox_prefix": prefix}
