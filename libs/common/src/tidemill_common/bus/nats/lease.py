"""One Lease on JetStream: a delivery of a work-queue Consumer, kept by `+WPI`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog

from tidemill_common.bus.addresses import address
from tidemill_common.bus.nats.acking import Acknowledgements
from tidemill_common.bus.nats.faults import NobodyListensError
from tidemill_common.bus.nats.frames import Message
from tidemill_common.bus.nats.messages import MESSAGE_ID, counted
from tidemill_common.bus.nats.pulling import origin_of
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import SET_ASIDE, DeadLetter, Invocation
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import AccessDeniedError, LeaseLostError, NotFoundError, TransientError

log = structlog.get_logger()


def _unguessable_id() -> str:
    """A message id, so that storing may be repeated. All Services share the Stream, and the server looks for repeats in
    all of it: whoever could guess an id could keep the message of another Service from being stored.
    """
    return uuid4().hex


class NatsLease:
    """A Worker's right to one Invocation; see `Lease`."""

    def __init__(
        self,
        wire: Wire,
        acknowledgements: Acknowledgements,
        answered: Callable[[], None],
        message: Message,
        invocation: Invocation,
        lane: Lane,
        length: timedelta,
        deadline: datetime,
    ) -> None:
        self.invocation = invocation
        self.lane = lane
        self.deadline = deadline
        self._wire = wire
        self._acknowledgements = acknowledgements
        self._answered: Callable[[], None] | None = answered
        self._message = message
        self._length = length
        origin = origin_of(message.reply)
        first, self.failures = counted(message)
        self.lost = origin.delivered - 1
        self.attempt = first + self.lost
        self._origin = origin

    @property
    def _is_over(self) -> bool:
        return datetime.now(UTC) >= self.deadline

    def _free_slot(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered()

    async def done(self) -> None:
        """The Invocation is finished; also after the Lease was lost, when nobody has answered it yet."""
        await self._acknowledge()

    async def _acknowledge(self) -> None:
        """The slot is free at once: the next ask leaves together with the acknowledgement."""
        confirmed = self._acknowledgements.send(self._message.reply)
        self._free_slot()
        try:
            await confirmed
        except NobodyListensError:  # the Consumer is gone, not what it delivered
            await self._remove()

    async def _remove(self) -> None:
        try:
            await self._wire.api(f"STREAM.MSG.DELETE.{self._origin.stream}", {"seq": self._origin.position})
        except NotFoundError:
            return
        except AccessDeniedError:  # a Worker's identity must not delete; whoever leases it next finds the outputs there
            log.info("finished Invocation left on the queue", invocation_id=self.invocation.id)

    async def retry(self, delay: timedelta, reason: str) -> None:
        """Store the ask for the next Attempt, then end this one.

        Raises:
            LeaseLostError: The Lease has ended, and another Attempt is under way.
        """
        try:
            if self._is_over:
                raise LeaseLostError(f"retry {self.invocation.id} after {reason}: the lease ended at {self.deadline}")
            await self._ask_for_next(delay)
            await self._acknowledge()
        finally:
            self._free_slot()

    async def _ask_for_next(self, delay: timedelta) -> None:
        service = ServiceName(self._message.subject.split(".")[2])
        retry = RetryAsked(
            service=service,
            lane=self.lane,
            invocation_id=self.invocation.id,
            invocation=self._message.data,
            attempt=self.attempt + 1,
            failures=self.failures + 1,
            not_before=datetime.now(UTC) + delay if delay > timedelta() else None,
        )
        await self._wire.store(address(RETRY_ASKED, service), retry.encode(), {MESSAGE_ID: _unguessable_id()})

    async def dead(self, letter: DeadLetter) -> None:
        """Store the dead letter, then end this Lease."""
        subject = address(SET_ASIDE, self.invocation.service)
        try:
            await self._wire.store(subject, letter.encode(), {MESSAGE_ID: _unguessable_id()})
            await self._acknowledge()
        finally:
            self._free_slot()

    async def release(self) -> None:
        """Give it back at once; a Lease that was lost is another's by now, and left alone."""
        try:
            if not self._is_over:
                await self._wire.repeat(self._message.reply, b"-NAK")
        finally:
            self._free_slot()

    async def extend(self) -> None:
        """Push `deadline` out; when the bus does not answer and there is still time, leave it for the next try."""
        asked = datetime.now(UTC)
        if asked >= self.deadline:
            raise LeaseLostError(f"extend {self.invocation.id}: the lease ended at {self.deadline}")
        left = (self.deadline - asked).total_seconds()
        try:
            await self._wire.request(self._message.reply, b"+WPI", timeout=min(left, self._length.total_seconds() / 6))
        except TransientError as error:
            if self._is_over:
                raise LeaseLostError(f"extend {self.invocation.id}: {error}") from error
            return
        self.deadline = asked + self._length
