"""From a call of `/job` or `/run` to its Event: which id it has, and what it carries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill_common.contracts.contract import EventId, InvocationId, derive_id
from tidemill_common.contracts.event import OBJECT_CREATED, SERVICE_CALLED, ArtifactRef, EventReceived, Lane
from tidemill_common.contracts.invocation import DIRECT_TRIGGER, invocation_id
from tidemill_common.contracts.service import Service
from tidemill_gateway.domain.notification import Notification, recognise

SOURCE: Final = "/gateway"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to run a Service."""

    service: Service
    body: bytes
    content_type: str | None = None
    idempotency_key: str | None = None
    """The caller's own name for this call; equal ones run once."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A call with the ids of its Event and its Invocation."""

    call: Call
    event_id: EventId
    invocation: InvocationId
    notification: Notification | None


def identify(call: Call, fresh: str) -> Identified:
    """Give a call its ids: the caller's key, else the stored object, else `fresh` decide."""
    notification = recognise(call.body, call.service)
    if call.idempotency_key is not None:
        event_id = EventId(derive_id("call", call.service.name, call.idempotency_key))
    elif notification is not None:
        event_id = notification.event_id(call.service.name)
    else:
        event_id = EventId(fresh)
    return Identified(call, event_id, invocation_id(event_id, call.service.name, DIRECT_TRIGGER), notification)


def to_event(
    identified: Identified,
    *,
    now: datetime,
    lane: Lane = Lane.BATCH,
    stored: ArtifactRef | None = None,
    deadline: datetime | None = None,
    reply_to: str | None = None,
) -> EventReceived:
    """The Event of a call; `stored`: where its body is, if that is not inline."""
    call, notification = identified.call, identified.notification
    # model_construct: the values are ours, and validation would cost more than all the rest
    return EventReceived.model_construct(
        id=identified.event_id,
        source=SOURCE,
        type=OBJECT_CREATED if notification else SERVICE_CALLED,
        subject=notification.artifact.key if notification else None,
        time=now,
        artifact=notification.artifact if notification else None,
        service=call.service.name,
        lane=lane,
        deadline=deadline,
        reply_to=reply_to,
        principal=notification.principal if notification else None,
        data=call.body if stored is None else None,
        data_ref=stored,
        data_content_type=call.content_type,
    )
