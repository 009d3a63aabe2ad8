"""Invocations whose Worker has ended without answering: what to tell of them, and whether the Service is to blame."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.invocation import ROOM_TAKEN, Change, InvocationChanged, Reason, changed_subject
from tidemill_common.errors import TidemillError
from tidemill_scheduler.activity import Held
from tidemill_scheduler.ports import Cause, WorkerEnded

log = structlog.get_logger()
DISRUPTIONS: Final = ROOM_TAKEN | {"JobDeleted", "NodeLost", "PodDeleted"}
"""The room was taken away, whoever was in it."""
_OF_USER_CODE: Final = frozenset({"OOMKilled", "Error", "Completed"})
"""How a container ends by what runs in it; its Invocations count that as an Attempt."""
_REASONS: Final = {"OOMKilled": Reason.OUT_OF_MEMORY, **dict.fromkeys(ROOM_TAKEN, Reason.EVICTED)}


def is_blameless(cause: Cause) -> bool:
    """Whether a Worker that had begun to work may be replaced at once: the Service itself can run."""
    return cause.reason in DISRUPTIONS | _OF_USER_CODE


def lost_records(ended: WorkerEnded, held: Iterable[Held], now: datetime) -> list[InvocationChanged]:
    """What to append for the Invocations that a Worker had; the next Attempt follows when its Lease runs out.

    One that ended in order answered for its Invocations itself. Records are told apart by Attempt, so one for an
    Attempt that was answered after all changes nothing.
    """
    if ended.exit_code == 0:
        return []
    cause = ended.cause or _exit(ended)
    return [
        InvocationChanged(
            invocation_id=one.id,
            service=ended.spec.service,
            change=Change.RETRIED,
            at=now,
            attempt=one.attempt,
            owner=ended.spec.owner,
            revision=one.revision or ended.spec.revision,
            worker=ended.spec.id,
            reason=_REASONS.get(cause.reason, Reason.WORKER_LOST),
            message=f"Worker {ended.spec.id} ended: {cause}",
        )
        for one in held
    ]


class Losses:
    """Tells Invocations at once what became of their Attempt; else they would know when its Lease runs out."""

    def __init__(self, lifecycle: Log) -> None:
        self._lifecycle = lifecycle

    async def tell(self, ended: WorkerEnded, held: Iterable[Held], now: datetime) -> None:
        """Append what is to be told. A bus that is away leaves it to the next Attempt."""
        for record in lost_records(ended, held, now):
            log.warning("attempt lost", invocation_id=record.invocation_id, reason=record.message)
            subject, message_id = changed_subject(record.change), record.message_id()
            try:
                await self._lifecycle.append(subject, record, key=record.service, message_id=message_id)
            except TidemillError as error:
                log.warning("loss not told", invocation_id=record.invocation_id, error=str(error))


def _exit(ended: WorkerEnded) -> Cause:
    if ended.signal is not None:
        return Cause("Killed", f"signal {ended.signal}")
    if ended.exit_code is not None:
        return Cause("Exited", f"exit code {ended.exit_code}" + (f", {ended.last_line}" if ended.last_line else ""))
    return Cause("Unknown", ended.last_line)
