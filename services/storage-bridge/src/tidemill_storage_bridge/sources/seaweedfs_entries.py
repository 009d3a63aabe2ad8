"""What a change of SeaweedFS' metadata means for stored objects: pure, from its messages to Events.

Measured with 4.48: `new_parent_path` is also set on creation; S3 uploads have whole seconds as mtime; tags and ACLs
come as old and new entry with equal content; a versioned object is a folder `<key>.versions` of `v_<version>` files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_storage_bridge.domain.objects import content_version, object_created, object_removed
from tidemill_storage_bridge.sources.filer_pb2 import Entry, SubscribeMetadataResponse

BUCKETS: Final = "/buckets/"
_ETAG: Final = "Seaweed-X-Amz-ETag"
_VERSION: Final = "Seaweed-X-Amz-Version-Id"
_DELETE_MARKER: Final = "Seaweed-X-Amz-Delete-Marker"
_OWNER: Final = "Seaweed-X-Amz-Owner"
_VERSIONS: Final = ".versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """An object as one entry shows it."""

    artifact: ArtifactRef
    version: str
    principal: str | None
    is_marker: bool
    """A version that says "removed"."""


def single_changes(response: SubscribeMetadataResponse) -> Iterator[SubscribeMetadataResponse]:
    """The changes in one answer, in order; answers are batches while the server catches up, or empty heartbeats."""
    if response.HasField("event_notification"):
        yield response
    for inner in response.events:
        yield from single_changes(inner)


def events_of(
    change: SubscribeMetadataResponse, *, source: str, provider: str, system_bucket: str
) -> list[EventReceived]:
    """The Events of one change: none for folders, parts of uploads, attributes and the server's own files."""
    notification = change.event_notification
    new_directory = notification.new_parent_path or change.directory
    old = _stored(change.directory, notification.old_entry, provider) if notification.HasField("old_entry") else None
    new = _stored(new_directory, notification.new_entry, provider) if notification.HasField("new_entry") else None
    if old is not None and new is not None and _same_content(old, new):
        return []
    at = datetime.fromtimestamp(change.ts_ns / 1e9, UTC)
    events = []
    if old is not None and (new is None or old.artifact.path != new.artifact.path):
        events.append(object_removed(source, old.artifact, version=old.version, time=at, principal=old.principal))
    if new is not None:
        make = object_removed if new.is_marker else object_created
        events.append(make(source, new.artifact, version=new.version, time=at, principal=new.principal))
    return [event for event in events if event.artifact is not None and event.artifact.bucket != system_bucket]


def _same_content(old: _Stored, new: _Stored) -> bool:
    return old.artifact.path == new.artifact.path and old.version == new.version and old.is_marker == new.is_marker


def _stored(directory: str, entry: Entry, provider: str) -> _Stored | None:
    """The object an entry is; None: it is none that a user stored."""
    if entry.is_directory or not directory.startswith(BUCKETS):
        return None
    path = f"{directory.removeprefix(BUCKETS)}/{entry.name}"
    bucket, _, key = path.partition("/")
    if not key or bucket.startswith(".") or key.startswith(".uploads/"):
        return None
    version = _text(entry, _VERSION)
    if version is not None and directory.endswith(_VERSIONS):
        path = directory.removeprefix(BUCKETS).removesuffix(_VERSIONS)
    return _described(entry, provider, path, version)


def _described(entry: Entry, provider: str, path: str, version: str | None) -> _Stored:
    attributes = entry.attributes
    etag = _text(entry, _ETAG) or attributes.md5.hex() or None
    artifact = ArtifactRef(provider=provider, path=path, etag=etag, size=attributes.file_size, version=version)
    return _Stored(
        artifact=artifact,
        version=content_version(etag, attributes.mtime),
        principal=_text(entry, _OWNER),
        is_marker=_DELETE_MARKER in entry.extended,
    )


def _text(entry: Entry, name: str) -> str | None:
    value = entry.extended.get(name)
    return value.decode(errors="replace").strip('"') or None if value is not None else None
