"""What an Event asks for: the Invocations it makes, or why a direct call cannot be served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import OBJECT_REMOVED, EventReceived
from tidemill_common.contracts.invocation import (
    DIRECT_TRIGGER,
    Change,
    Invocation,
    InvocationChanged,
    Reason,
    invocation_id,
)
from tidemill_common.contracts.service import ServiceDefined
from tidemill_storage_bridge.domain.triggers import Triggers


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """The answer to one Event."""

    invocations: tuple[Invocation, ...] = ()
    refused: InvocationChanged | None = None
    """A direct call of a Service that is not there: the terminal record that says so."""


NOTHING = Dispatch()


def may_trigger(event: EventReceived, *, system_bucket: str) -> bool:
    """Whether Triggers are asked at all: a stored object that is new and not the platform's own."""
    if event.service is not None or event.artifact is None:
        return False
    return event.type != OBJECT_REMOVED and event.artifact.bucket != system_bucket


def dispatch(event: EventReceived, triggers: Triggers, *, at: datetime, system_bucket: str) -> Dispatch:
    """The Invocations that this Event makes; the same for the same Event and definitions, however often asked."""
    if event.service is not None:
        return _direct(event, triggers.definition(event.service), at)
    if event.artifact is None or not may_trigger(event, system_bucket=system_bucket):
        return NOTHING
    matches = triggers.matching(event.artifact)
    return Dispatch(invocations=tuple(_invocation(event, match.definition, match.trigger, at) for match in matches))


def requested(invocation: Invocation) -> InvocationChanged:
    """The record on LIFECYCLE that an Invocation begins with."""
    event = invocation.event
    return InvocationChanged(
        invocation_id=invocation.id,
        service=invocation.service,
        change=Change.REQUESTED,
        at=invocation.requested_at,
        owner=invocation.owner,
        revision=invocation.revision,
        event_id=event.id,
        trigger=invocation.trigger,
        lane=invocation.lane,
        input=event.artifact,
        redrive_of=InvocationId(event.redrive_of) if event.redrive_of else None,
        principal=event.principal,
    )


def failed(invocation: Invocation, reason: Reason, message: str) -> InvocationChanged:
    """The terminal record of an Invocation that could not be queued."""
    return requested(invocation).model_copy(update={"change": Change.FAILED, "reason": reason, "message": message})


def _direct(event: EventReceived, definition: ServiceDefined | None, at: datetime) -> Dispatch:
    if definition is not None and definition.service is not None:
        return Dispatch(invocations=(_invocation(event, definition, DIRECT_TRIGGER, at),))
    return Dispatch(refused=_service_removed(event, definition, at))


def _service_removed(event: EventReceived, definition: ServiceDefined | None, at: datetime) -> InvocationChanged:
    assert event.service is not None
    return InvocationChanged(
        invocation_id=invocation_id(event.id, event.service, DIRECT_TRIGGER),
        service=event.service,
        change=Change.FAILED,
        at=at,
        revision=definition.revision if definition is not None else 0,
        reason=Reason.SERVICE_REMOVED,
        message=f"there is no Service {event.service!r} (any more)",
        event_id=event.id,
        trigger=DIRECT_TRIGGER,
        lane=event.lane,
        input=event.artifact,
        redrive_of=InvocationId(event.redrive_of) if event.redrive_of else None,
        principal=event.principal,
    )


def _invocation(event: EventReceived, definition: ServiceDefined, trigger: str, at: datetime) -> Invocation:
    owner = definition.service.owner if definition.service is not None else ""
    return Invocation.of(
        event, service=definition.name, owner=owner, revision=definition.revision, trigger=trigger, now=at
    )
