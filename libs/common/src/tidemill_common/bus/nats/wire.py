"""Requests over one nats-py connection: one reply inbox for all answers, one sweeper for all deadlines.

nats-py itself keeps the connection and carries publishes and subscriptions; its own request and JetStream calls are
not used (they hang or leak across a reconnect, and cost twice as much). Every request ends: with its answer, at its
deadline, or when the connection breaks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from nats.aio.subscription import Subscription

from tidemill_common.bus.nats.direct import DirectClient
from tidemill_common.bus.nats.faults import api_fault, library_fault, status_fault
from tidemill_common.bus.nats.frames import Handler, Headers, Message
from tidemill_common.errors import AccessDeniedError, OutcomeUnknownError, TidemillError, UnavailableError

log = structlog.get_logger()

_SWEEP: Final = 0.1
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_LONGEST_TRY: Final = 2.0
"""Seconds that one try of a repeatable request may take; a lost answer costs no more than this."""
_OWN_INBOX: Final = ""
"""Stands for the reply subject of the request itself, which answers it."""


class _Waiting(NamedTuple):
    future: asyncio.Future[Message]
    deadline: float
    subject: str


class Stored(msgspec.Struct):
    """A Stream's acknowledgement, or its refusal."""

    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


_STORED: Final = msgspec.json.Decoder(Stored)
"""A tenth of what `json.loads` takes of an append."""


class Wire:
    """Requests, publishes and subscriptions on one connection. Opened and closed by `connection`."""

    def __init__(self, client: DirectClient, timeout: timedelta) -> None:
        self._client = client
        self._timeout = timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, _Waiting] = {}
        self._tokens = count(1)
        self._prefix = ""
        """Of the subjects that answers come on; known when the connection is up, for it tells who we are."""
        self._usable = asyncio.Event()
        self._closed = False
        self._watchers: set[Callable[[], None]] = set()

    # --- life of the connection, told by `connection` ---

    async def start(self) -> None:
        """Begin to receive answers; the connection is up."""
        self._prefix = f"{self._client.new_inbox()}."
        await self.subscribe(f"{self._prefix}*", self._answered)
        self._usable.set()

    async def disconnected(self) -> None:
        """Nothing in flight will be answered any more."""
        self._usable.clear()
        self._fail_all(lambda what: OutcomeUnknownError(f"{what}: the connection to the bus broke"))

    async def reconnected(self) -> None:
        """The connection is back; whoever pulls asks again at once."""
        self._usable.set()
        self._tell_watchers()

    async def closed(self) -> None:
        """The connection will not come back."""
        self._closed = True
        self._usable.set()
        self._fail_all(lambda what: OutcomeUnknownError(f"{what}: the connection to the bus was closed"))
        self._tell_watchers()

    async def reported(self, error: Exception) -> None:
        """An error that belongs to no call: a refused subject ends the requests to it."""
        text = str(error).lower()
        if "permissions violation" not in text:
            log.debug("bus connection reported an error", error=str(error) or type(error).__name__)
            return
        log.warning("bus refused a subject", error=text)
        for waiting in self._waiting.values():
            if f'"{waiting.subject.lower()}"' in text and not waiting.future.done():
                waiting.future.set_exception(AccessDeniedError(f"{waiting.subject}: {text}"))

    async def sweep(self) -> None:
        """End requests whose deadline has passed; runs as long as the connection."""
        while True:
            await asyncio.sleep(_SWEEP)
            now = self._loop.time()
            for waiting in [each for each in self._waiting.values() if each.deadline <= now]:
                if not waiting.future.done():
                    waiting.future.set_exception(UnavailableError(f"{waiting.subject}: no answer in time"))

    def _fail_all(self, make: Callable[[str], TidemillError]) -> None:
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(make(waiting.subject))

    def _tell_watchers(self) -> None:
        for watcher in list(self._watchers):
            watcher()

    @property
    def is_closed(self) -> bool:
        """True: the connection will not come back."""
        return self._closed

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` after each reconnect and on closing; returns what ends that."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    # --- requests ---

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.get(message.subject[len(self._prefix) :])
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(message)

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Headers | None = None,
        timeout: float | None = None,
        after: Sequence[str] = (),
    ) -> Message:
        """The one answer to a message. The same body goes to the subjects of `after` before it, without an answer.

        Raises:
            UnavailableError: No connection, no answer in time, or nobody listens there.
            OutcomeUnknownError: The connection broke while waiting.
            AccessDeniedError: The server refuses the subject.
        """
        deadline = self._loop.time() + (self._timeout if timeout is None else timeout)
        if self._closed or not self._usable.is_set():
            await self._until_usable(subject, deadline)
        token = str(next(self._tokens))
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[token] = _Waiting(future, deadline, subject)
        try:
            reply = self._prefix + token
            for each in after:
                await self._publish(each, body, "", None)
            await self._publish(subject or reply, body, reply, headers)
            message = await future
        finally:
            del self._waiting[token]
        if (status := message.status) is not None:
            raise status_fault(*status, subject)
        return message

    async def _until_usable(self, what: str, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._usable.wait()
        except TimeoutError:
            raise UnavailableError(f"{what}: no connection to the bus") from None
        if self._closed:
            raise UnavailableError(f"{what}: the connection to the bus is closed")

    async def _publish(self, subject: str, body: bytes, reply: str, headers: Headers | None) -> None:
        try:
            self._client.send(subject, reply, headers, body)
            if self._client.is_congested:
                await self._client.relieve()
        except Exception as error:
            raise library_fault(error, subject) from error

    async def repeat(
        self,
        subject: str,
        body: bytes,
        *,
        headers: Headers | None = None,
        timeout: float | None = None,
        after: Sequence[str] = (),
    ) -> Message:
        """Like `request`, but tried again as a whole until the timeout: only for what is safe to repeat."""
        deadline = self._loop.time() + (self._timeout if timeout is None else timeout)
        pause = _FIRST_PAUSE
        while True:
            left = deadline - self._loop.time()
            try:
                return await self.request(subject, body, headers=headers, timeout=min(left, _LONGEST_TRY), after=after)
            except (UnavailableError, OutcomeUnknownError):
                if self._closed or self._loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def store(self, subject: str, body: bytes, headers: Headers | None = None) -> Stored:
        """Append to whichever Stream keeps the subject. With a `Nats-Msg-Id` a doubtful outcome is tried again."""
        send = self.repeat if headers and "Nats-Msg-Id" in headers else self.request
        stored = _STORED.decode((await send(subject, body, headers=headers)).data)
        if stored.error is not None:
            raise api_fault(stored.error, subject)
        return stored

    async def api(self, subject: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """One call of JetStream's management; raw JSON, so no field is lost. Only for what is safe to repeat."""
        body = b"" if query is None else json.dumps(query).encode()
        answer: dict[str, Any] = json.loads((await self.repeat(f"$JS.API.{subject}", body)).data)
        if "error" in answer:
            raise api_fault(answer["error"], subject)
        return answer

    # --- without an answer ---

    async def tell(self, subject: str, body: bytes = b"", reply: str = "") -> None:
        """Publish and do not wait.

        Raises:
            UnavailableError: There is no connection now.
        """
        if self._closed or not self._usable.is_set():
            raise UnavailableError(f"{subject}: no connection to the bus")
        await self._publish(subject, body, reply, None)

    async def round_trip(self) -> None:
        """Return when the server has seen all that was sent, and what it sent before has arrived here.

        A message to ourselves: nats-py's own flush breaks its read loop when it is cancelled or times out (the PONG
        then meets a cancelled future).
        """
        await self.request(_OWN_INBOX)

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """Hand each message to `handler`, one after the other, as it arrives."""
        try:
            return await self._client.listen(subject, handler)
        except Exception as error:
            raise library_fault(error, subject) from error

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription; what the server sent before it knew is handed to the handler first.

        Raises:
            TransientError: The connection broke; nothing more will come.
        """
        try:
            # The public `drain` uses flush, see `round_trip`; the public `unsubscribe` drops what is under way.
            await self._client.stop_sending(subscription)
            await self.round_trip()
        finally:
            await self.unsubscribe(subscription)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Receive nothing more; never fails, the connection may be gone."""
        try:
            await self._client.ignore(subscription)
        except Exception as error:  # noqa: BLE001  # closed already: then it is gone as well
            log.debug("unsubscribe failed", error=str(error))

    def new_inbox(self) -> str:
        """A subject of this connection alone."""
        return f"{self._client.new_inbox()}"
