"""Acknowledgements, confirmed many at a time.

A server takes the acknowledgements of one Consumer in the order in which one connection sends them, and answers when
one was asked for. So of all that are sent in one turn of the loop only the last asks, and its answer is everybody's.
"""

from __future__ import annotations

import asyncio

from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import TidemillError


class Acknowledgements:
    """Those of one Consumer."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._bursts: set[asyncio.Task[None]] = set()

    def send(self, reply: str) -> asyncio.Future[None]:
        """The delivery with this reply subject is finished; the result is there when the server has confirmed.

        Raises (the future):
            NobodyListensError: The Consumer is gone.
            UnavailableError, OutcomeUnknownError: Not confirmed.
        """
        if not self._waiting:
            self._loop.call_soon(self._leave)
        confirmed = self._loop.create_future()
        self._waiting.append((reply, confirmed))
        return confirmed

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        burst = self._loop.create_task(self._confirm(waiting))
        self._bursts.add(burst)
        burst.add_done_callback(self._bursts.discard)

    async def _confirm(self, waiting: list[tuple[str, asyncio.Future[None]]]) -> None:
        *others, last = (reply for reply, _ in waiting)
        try:
            await self._wire.repeat(last, b"+ACK", after=others)
        except TidemillError as error:
            for _, confirmed in waiting:
                if not confirmed.done():
                    confirmed.set_exception(error)
            return
        for _, confirmed in waiting:
            if not confirmed.done():
                confirmed.set_result(None)
