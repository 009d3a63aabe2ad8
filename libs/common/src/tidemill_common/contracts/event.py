"""Event: something arrived. A fact with an id derived from what arrived, so telling it twice changes nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, ConfigDict

from tidemill_common.contracts.contract import Contract, EventId, ServiceName, Subject


class Lane(StrEnum):
    """A Service's two work queues; interactive goes first."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class ArtifactRef(Contract):
    """A stored object by reference."""

    provider: str = "minio.default"
    """As named in FDL: `<kind>[.<id>]`."""
    path: str
    """`bucket/key` for S3 kinds, decoded; the path inside the space or server for others."""
    etag: str | None = None
    """Without quotes; None: the provider has none."""
    size: int | None = None
    """Bytes; None: unknown."""
    version: str | None = None
    """The store's version id; None: not versioned."""

    @property
    def bucket(self) -> str:
        """First segment of the path."""
        return self.path.partition("/")[0]

    @property
    def key(self) -> str:
        """The path behind the bucket."""
        return self.path.partition("/")[2]


OBJECT_CREATED: Final = "org.tidemill.object.created.v1"
OBJECT_REMOVED: Final = "org.tidemill.object.removed.v1"
SERVICE_CALLED: Final = "org.tidemill.service.called.v1"
"""Types of our own Events; CloudEvents from outside keep the type they came with."""


class EventReceived(Contract):
    """An Event was accepted (CloudEvents 1.0 attributes, flat). From sources and the gateway, for routing."""

    model_config = ConfigDict(title="EventReceivedV1")

    id: EventId
    """Unique with `source`; derived from the stored object (source, bucket, key, etag, version or time)."""
    source: str
    """URI-reference of who says so: `/sources/seaweedfs/minio.default`, `/gateway`."""
    type: str
    subject: str | None = None
    """CloudEvents `subject`: for stored objects the decoded key."""
    time: AwareDatetime
    artifact: ArtifactRef | None = None
    """The stored object this Event is about; None: it is about something else."""
    service: ServiceName | None = None
    """The one Service this Event is for (a direct call, `/job` or `/run`); None: Triggers decide."""
    lane: Lane = Lane.BATCH
    deadline: AwareDatetime | None = None
    """After this instant the result is of no use; None: it always is."""
    reply_to: str | None = None
    """Live subject on which a caller waits for the result; None: nobody waits."""
    principal: str | None = None
    """Who caused it, as the source tells it."""
    data: bytes | None = None
    """The payload as it came, at most 64 KiB; larger ones are in `data_ref`."""
    data_ref: ArtifactRef | None = None
    data_content_type: str | None = None
    traceparent: str | None = None
    redrive_of: str | None = None
    """Invocation that this Event repeats by an operator's wish (retry, redrive, replay); None: it is new."""


RECEIVED: Final = Subject("event.v1.received.{key}", EventReceived)
"""Key: the bucket for stored objects, the Service for direct calls, else the source's name."""


def event_key(event: EventReceived) -> str:
    """The key of an Event's subject; see RECEIVED."""
    if event.service is not None:
        return event.service
    if event.artifact is not None:
        return event.artifact.bucket
    return event.source.strip("/").replace("/", "-") or "other"
