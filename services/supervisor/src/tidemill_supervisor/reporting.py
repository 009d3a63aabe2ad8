"""Tells LIFECYCLE what becomes of an Invocation, and the caller who waits. Each record is stored once, by its id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from tidemill_common.bus import Live, Log
from tidemill_common.contracts import MAX_BODY_BYTES
from tidemill_common.contracts.contract import InvocationId, WorkerId
from tidemill_common.contracts.invocation import (
    Change,
    DeadLetter,
    Invocation,
    InvocationChanged,
    Reason,
    changed_subject,
)
from tidemill_common.errors import TidemillError
from tidemill_supervisor.appending import append_surely
from tidemill_supervisor.domain.outcome import Outcome

log = structlog.get_logger()

_HEADERS_BYTES: Final = 2048
"""Left free in a record for what the bus adds."""
_MESSAGE_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Which Attempt of what, by whom: the fields that all its records share."""

    invocation: Invocation
    attempt: int
    revision: int
    worker: WorkerId


class Reporter:
    """Writes the records of Attempts."""

    def __init__(self, bus_log: Log, live: Live) -> None:
        self._log = bus_log
        self._live = live

    async def started(self, execution: Execution, at: datetime) -> None:
        """The Attempt began. Returns when the bus has it."""
        await self._append(changed(execution, Change.STARTED, at))

    async def retried(self, execution: Execution, outcome: Outcome, at: datetime, delay: timedelta) -> None:
        """The Attempt failed, and another will follow."""
        record = changed(execution, Change.RETRIED, at, outcome)
        await self._append(record.model_copy(update={"not_before": at + delay}))

    async def ended(self, execution: Execution, change: Change, outcome: Outcome, at: datetime) -> None:
        """The Invocation ended; a caller who waits is told after the bus has it."""
        record = changed(execution, change, at, outcome)
        await self._append(record)
        if execution.invocation.event.reply_to is not None:
            await self._reply(execution.invocation.event.reply_to, record)

    async def _append(self, record: InvocationChanged) -> None:
        subject = changed_subject(record.change)
        await append_surely(self._log, subject, record, key=record.service, message_id=record.message_id())

    async def _reply(self, address: str, record: InvocationChanged) -> None:
        try:
            await self._live.publish(address, record.encode())
        except TidemillError as error:  # the caller finds the record in the projection
            log.warning("reply failed", invocation_id=record.invocation_id, error=str(error))


def changed(execution: Execution, change: Change, at: datetime, outcome: Outcome | None = None) -> InvocationChanged:
    """One record, made to fit into a message."""
    invocation = execution.invocation
    record = InvocationChanged(
        invocation_id=invocation.id,
        service=invocation.service,
        change=change,
        at=at,
        attempt=execution.attempt,
        owner=invocation.owner,
        revision=execution.revision,
        worker=execution.worker,
        event_id=invocation.event.id,
        trigger=invocation.trigger,
        lane=invocation.lane,
        input=invocation.event.artifact,
        redrive_of=InvocationId(invocation.event.redrive_of) if invocation.event.redrive_of else None,
        principal=invocation.event.principal,
        **({} if outcome is None else _of_outcome(outcome)),
    )
    return record if outcome is None else _fitted(record)


def dead_letter(execution: Execution, outcome: Outcome, at: datetime) -> DeadLetter:
    """What is kept of an Invocation that is set aside."""
    return DeadLetter(
        invocation=execution.invocation,
        reason=outcome.reason,
        message=_short(outcome.message) or outcome.reason,
        attempts=execution.attempt,
        exit_code=outcome.exit_code,
        log_tail=outcome.log_tail,
        at=at,
    )


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "reason": Reason(outcome.reason),
        "message": _short(outcome.message),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "outputs": outcome.outputs,
        "log_tail": outcome.log_tail or None,
        "result": outcome.result,
        "result_ref": outcome.result_ref,
    }


def _short(message: str | None) -> str | None:
    return message[:_MESSAGE_CHARACTERS] if message else None


def _fitted(record: InvocationChanged) -> InvocationChanged:
    """The record, without as much of its lists as a message has no room for; it says so."""
    if _fits(record):
        return record
    return next(shorter for shorter in _shorter(record) if _fits(shorter))


def _shorter(record: InvocationChanged) -> Iterator[InvocationChanged]:
    tail = (record.log_tail or "")[-512:] or None
    record = record.model_copy(update={"log_tail": tail})
    yield record
    count = len(record.outputs)
    while count:
        count //= 2
        message = f"{len(record.outputs)} outputs; the first {count} are listed"
        yield record.model_copy(update={"outputs": record.outputs[:count], "message": message})
    yield record.model_copy(update={"outputs": (), "log_tail": None, "message": f"{len(record.outputs)} outputs"})


def _fits(record: InvocationChanged) -> bool:
    if not (record.outputs or record.log_tail or record.result):  # what remains is small: do not encode it twice
        return True
    return len(record.encode()) <= MAX_BODY_BYTES - _HEADERS_BYTES
