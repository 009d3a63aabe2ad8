"""Ends an Invocation by an operator's wish: one terminal record; Workers follow those of their Service."""

from __future__ import annotations

from datetime import UTC, datetime

from tidemill_common.bus import Log
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason, changed_subject
from tidemill_common.errors import ConflictError
from tidemill_gateway.domain.fold import InvocationRow


async def cancel(row: InvocationRow, bus_log: Log, *, principal: str, reason: Reason = Reason.CANCELLED) -> None:
    """Append `cancelled`; a terminal record that was faster wins.

    Raises:
        ConflictError: It has ended.
        TransientError: The bus has not (certainly) stored it; safe to repeat.
    """
    if row.is_terminal:
        raise ConflictError(f"invocation {row.id} has ended: it is {row.phase}")
    record = InvocationChanged(
        invocation_id=row.id,
        service=row.service,
        change=Change.CANCELLED,
        at=datetime.now(UTC),
        owner=row.owner,
        revision=row.revision,
        reason=reason,
        message=f"cancelled by {principal}",
        principal=principal,
    )
    await bus_log.append(changed_subject(Change.CANCELLED), record, key=row.service, message_id=record.message_id())
