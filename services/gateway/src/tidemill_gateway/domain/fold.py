"""From the log of what became of an Invocation to the one row that says how it is.

The first terminal record in the order of the log wins, for ever. Everything else is a minimum, a maximum or the record
with the greatest (attempt, change), so the order in which other records arrive, and repeats, make no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import ArtifactRef, Lane
from tidemill_common.contracts.invocation import TERMINAL, Change, InvocationChanged, Phase, Reason

TERMINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
_RANKS: Final = {Change.REQUESTED: 0, Change.STARTED: 1, Change.RETRIED: 2}
_ENDED: Final = 2**31 - 1
_PHASES: Final = {
    Change.REQUESTED: Phase.PENDING,
    Change.STARTED: Phase.RUNNING,
    Change.RETRIED: Phase.PENDING,
    Change.SUCCEEDED: Phase.SUCCEEDED,
    Change.FAILED: Phase.FAILED,
    Change.DEAD: Phase.FAILED,
    Change.CANCELLED: Phase.CANCELLED,
}
_CALLED_OFF: Final = frozenset({Reason.DEADLINE_PASSED, Reason.SERVICE_REMOVED})
"""The caller's time is over, or its Service is gone: both are seen in several places at the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationRow:
    """What is known of one Invocation."""

    id: InvocationId
    service: ServiceName
    requested_at: datetime
    """Of the oldest record."""
    position: int
    """Of the newest record on LIFECYCLE that was folded."""
    phase: Phase = Phase.PENDING
    dead: bool = False
    """Failed, and a dead letter was kept."""
    requested: bool = False
    """A `requested` record was seen; the accounts count these apart from the ends."""
    hidden: bool = False
    """Deleted through OSCAR's API; kept until a late repeat can no longer come."""
    progress: int = -1
    """Greatest (attempt, change) that was seen; the end is greater than all."""
    owner: str = ""
    attempts: int = 0
    revision: int = 0
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    worker: str | None = None
    event_id: str | None = None
    trigger: str | None = None
    lane: Lane | None = None
    input: ArtifactRef | None = None
    outputs: tuple[ArtifactRef, ...] = ()
    started_at: datetime | None = None
    """Start of the first Attempt."""
    finished_at: datetime | None = None
    not_before: datetime | None = None
    log_tail: str | None = None
    result: bytes | None = None
    result_ref: ArtifactRef | None = None
    redrive_of: str | None = None
    principal: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it ended, for ever."""
        return self.phase in TERMINAL_PHASES


FIELDS: Final = tuple(field.name for field in fields(InvocationRow))
_VALUES: Final = attrgetter(*FIELDS)
_DEFAULTS: Final = {field.name: field.default for field in fields(InvocationRow)}
_KEPT: Final = ("owner", "event_id", "trigger", "lane", "input", "redrive_of", "principal")
"""The first record that has one tells it."""


def fold(row: InvocationRow | None, record: InvocationChanged, position: int) -> InvocationRow:
    """The row after this record; a position that was folded before changes nothing."""
    return fold_all(row, ((record, position),))


def fold_all(row: InvocationRow | None, records: Sequence[tuple[InvocationChanged, int]]) -> InvocationRow:
    """The row after some records of this Invocation with their positions, at least one; made once for all of them."""
    values = _first(*records[0]) if row is None else dict(zip(FIELDS, _VALUES(row), strict=True))
    for record, position in records:
        if position > values["position"]:
            values["position"] = position
            _add_facts(values, record)
            if values["phase"] not in TERMINAL_PHASES:
                _move_on(values, record)
    return InvocationRow(**values)


def _first(record: InvocationChanged, position: int) -> dict[str, Any]:
    """The fields of an Invocation of which nothing was known."""
    known = {"id": record.invocation_id, "service": record.service, "requested_at": record.at}
    return _DEFAULTS | known | {"position": position - 1}


def _add_facts(values: dict[str, Any], record: InvocationChanged) -> None:
    """What is true whatever else was told, also after the end."""
    values["attempts"] = max(values["attempts"], record.attempt)
    values["requested_at"] = min(values["requested_at"], record.at)
    if record.change is Change.STARTED:
        values["started_at"] = min(values["started_at"] or record.at, record.at)
    if record.change is Change.REQUESTED:
        values["requested"] = True
    for name in _KEPT:
        if not values[name] and (value := getattr(record, name)):
            values[name] = value


def _move_on(values: dict[str, Any], record: InvocationChanged) -> None:
    """The state of an Invocation that has not ended."""
    if record.change in TERMINAL:
        values.update(_described(record))
        values.update(finished_at=record.at, dead=record.change is Change.DEAD, progress=_ENDED)
        return
    progress = record.attempt * len(_RANKS) + _RANKS[record.change]
    if progress > values["progress"]:
        values.update(_described(record))
        values["progress"] = progress


def _phase(record: InvocationChanged) -> Phase:
    """What somebody called off is cancelled, whether the gateway or the Worker saw it first."""
    if record.change in TERMINAL and record.reason in _CALLED_OFF:
        return Phase.CANCELLED
    return _PHASES[record.change]


def _described(record: InvocationChanged) -> dict[str, Any]:
    return {
        "phase": _phase(record),
        "revision": record.revision,
        "worker": record.worker,
        "reason": record.reason,
        "message": record.message,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "not_before": record.not_before,
        "log_tail": record.log_tail,
        "outputs": record.outputs,
        "result": record.result,
        "result_ref": record.result_ref,
    }


COUNTERS: Final = ("requested", "succeeded", "failed", "dead", "cancelled", "pruned")


def counted(before: InvocationRow | None, after: InvocationRow) -> tuple[str, ...]:
    """Which counters of the Service's account grow by one with this step."""
    grown = []
    if after.requested and not (before and before.requested):
        grown.append("requested")
    if after.is_terminal and not (before and before.is_terminal):
        grown.append("dead" if after.dead else after.phase.value.lower())
    return tuple(grown)


def terminal_record(row: InvocationRow) -> InvocationChanged:
    """The record that ended this Invocation, as far as a caller is answered from it."""
    ends = {Phase.SUCCEEDED: Change.SUCCEEDED, Phase.CANCELLED: Change.CANCELLED, Phase.FAILED: Change.FAILED}
    return InvocationChanged(
        invocation_id=row.id,
        service=row.service,
        change=Change.DEAD if row.dead else ends[row.phase],
        at=row.finished_at or row.requested_at,
        attempt=row.attempts,
        reason=row.reason,
        message=row.message,
        exit_code=row.exit_code,
        log_tail=row.log_tail,
        result=row.result,
        result_ref=row.result_ref,
    )
