"""Events about stored objects, with ids that are the same whoever reports the object and however often.

The rule (docs/internals.md): `derive_id("object", source, bucket, key, version)`, where version is what tells one
content from the next: the store's version id or sequencer, else etag and time.
"""

from __future__ import annotations

from datetime import datetime

from tidemill_common.contracts.contract import EventId, derive_id
from tidemill_common.contracts.event import OBJECT_CREATED, OBJECT_REMOVED, ArtifactRef, EventReceived


def object_created(
    source: str,
    artifact: ArtifactRef,
    *,
    version: str,
    time: datetime,
    kind: str = OBJECT_CREATED,
    principal: str | None = None,
) -> EventReceived:
    """An object was stored or replaced."""
    return _event("object", source, artifact, version, time, kind, principal)


def object_removed(
    source: str, artifact: ArtifactRef, *, version: str, time: datetime, principal: str | None = None
) -> EventReceived:
    """An object was removed."""
    return _event("removed", source, artifact, version, time, OBJECT_REMOVED, principal)


def content_version(etag: str | None, modified_seconds: int) -> str:
    """What tells contents apart where the store has neither version ids nor sequencers."""
    return f"{etag or ''}|{modified_seconds}"


def _event(
    word: str, source: str, artifact: ArtifactRef, version: str, time: datetime, kind: str, principal: str | None
) -> EventReceived:
    return EventReceived(
        id=EventId(derive_id(word, source, artifact.bucket, artifact.key, version)),
        source=source,
        type=kind,
        subject=artifact.key,
        time=time,
        artifact=artifact,
        principal=principal,
    )
