"""The only place that knows nats-py's inner names: a client whose messages skip its queues, tasks and awaits.

nats-py keeps the connection, its pings and its reconnects. What is published goes into its outgoing buffer as one
frame, and its flusher is woken once for all that is published in one turn of the loop. What is received goes straight
from the read loop to the handler of its subscription. `tests/unit/common/bus/test_direct.py` fails when a name
that is used here is gone from the version of nats-py that `requirements/runtime.in` fixes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from nats import errors as library
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import AUTHORIZATION_VIOLATION, Parser

from tidemill_common.bus.nats.frames import Frames, Handler, Headers, publish_frame

_REFUSED: Final = (AUTHORIZATION_VIOLATION, "authentication expired", "authentication revoked")
"""With one of these the server ends a connection whose credentials are good no more."""
_MANY: Final = 8
_SPAN_SECONDS: Final = 0.02
_GATHERING_SECONDS: Final = 0.001
"""After so many departures in the span the next one waits for what comes meanwhile: a system call here, and one in the
server, cost as much as all else of a message. What one Invocation sends alone is less."""


class DirectClient(Client):
    """A nats-py connection for `Wire`: subscribe with `listen`, publish with `send`.

    Args:
        gathers: When messages leave hundreds of times a second, those of a millisecond leave together.
    """

    def __init__(self, *, gathers: bool = False) -> None:
        super().__init__()
        self._gathers = gathers
        self._departures: deque[float] = deque(maxlen=_MANY)
        self._handlers: dict[bytes, Handler] = {}
        self._leaves = False
        """Whether what is published now will be sent soon."""
        self._ps = _DirectParser(self, Frames(self._handlers))

    def send(self, subject: str, reply: str, headers: Headers | None, body: bytes) -> None:
        """Publish one message; it leaves with all others of this turn of the loop, or of the next millisecond.

        Raises:
            Error: The connection is closed, its buffer is full while it is broken, or the message is none.
        """
        if self.is_closed:
            raise library.ConnectionClosedError
        if len(body) > self._max_payload:
            raise library.MaxPayloadError
        frame = publish_frame(subject, reply, headers, body)
        connected = self.is_connected
        if not connected and len(frame) + self._pending_data_size > self._max_pending_size:
            raise library.OutboundBufferLimitError
        self._pending.append(frame)
        self._pending_data_size += len(frame)
        if connected and not self._leaves:
            self._leaves = True
            self._plan_departure()

    def _plan_departure(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._gathers:
            loop.call_soon(self._leave)
            return
        now = time.monotonic()
        if len(self._departures) == _MANY and now - self._departures[0] < _SPAN_SECONDS:
            loop.call_later(_GATHERING_SECONDS, self._leave)
        else:
            loop.call_soon(self._leave)
        self._departures.append(now)

    async def _process_err(self, err_msg: str) -> None:
        """Connect again, with what the credentials file has by then; nats-py would close for good."""
        if self.is_connected and any(refused in err_msg for refused in _REFUSED):
            await self._process_op_err(library.AuthorizationError())
            return
        await super()._process_err(err_msg)

    async def _process_connect_init(self) -> None:
        """Close what was opened for a connection that is refused; nats-py would leave it to the garbage collector."""
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # nats-py says nothing of its result
            raise

    def _leave(self) -> None:
        """Wake the flusher, with one piece for it: a system call with many small ones costs several times as much."""
        self._leaves = False
        queue = self._flush_queue
        if len(self._pending) > 1:
            self._pending = [b"".join(self._pending)]
        if queue is not None and queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())

    @property
    def is_congested(self) -> bool:
        """Whether more waits to be sent than may: `relieve` before the next `send`."""
        return self._pending_data_size > self._max_pending_size

    async def relieve(self) -> None:
        """Return when the server has taken what waits, or does not take it in time."""
        await self._flush_pending(force_flush=True)

    async def listen(self, subject: str, handler: Handler) -> Subscription:
        """Hand each message to `handler`, also after a reconnect; ended by `ignore`."""
        number = b"%d" % (self._sid + 1)
        self._handlers[number] = handler
        try:
            return await self.subscribe(subject)
        except BaseException:
            del self._handlers[number]
            raise

    async def stop_sending(self, subscription: Subscription) -> None:
        """Tell the server to send no more on it; what is under way is still handed over."""
        await self._send_unsubscribe(subscription._id)

    async def ignore(self, subscription: Subscription) -> None:
        """End a subscription, and hand over nothing more."""
        self._handlers.pop(b"%d" % subscription._id, None)
        await subscription.unsubscribe()


class _DirectParser(Parser):
    """Leaves to nats-py what is not a message."""

    def __init__(self, client: DirectClient, frames: Frames) -> None:
        self._frames = frames
        super().__init__(client)

    def reset(self) -> None:
        """Begin with another connection."""
        super().reset()
        self._frames.clear()

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read from the server."""
        try:
            for line in self._frames.feed(data):
                await super().parse(line)
                self.buf.clear()
        except (ValueError, IndexError) as error:
            raise library.ProtocolError from error
