"""Listings of a folder as Events: page by page, for reconciliation and backfill.

For a store whose stream has its own Source the ids are the same as the stream's, so both collapse into one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.storage import ObjectInfo, ObjectStore
from tidemill_storage_bridge.domain.objects import content_version, object_created


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing, and the Event that tells of it."""

    info: ObjectInfo
    event: EventReceived


def listing_source(provider: str) -> str:
    """The `source` of Events that only a listing told of."""
    return f"/sources/listing/{provider}"


async def list_folder(store: ObjectStore, path: str, *, provider: str, source: str) -> AsyncIterator[Listed]:
    """The objects below `bucket/folder`, in the order of their keys; no folder markers.

    Raises:
        NotFoundError: No such bucket.
        TransientError: The store did not answer.
    """
    async for info in store.list(f"{path}/"):
        if not info.path.endswith("/"):
            yield Listed(info=info, event=_event(info, provider=provider, source=source))


def _event(info: ObjectInfo, *, provider: str, source: str) -> EventReceived:
    artifact = ArtifactRef(provider=provider, path=info.path, etag=info.etag, size=info.size_bytes)
    version = content_version(info.etag, int(info.modified.timestamp()))
    return object_created(source, artifact, version=version, time=info.modified)
