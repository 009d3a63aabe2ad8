"""S3 event notifications in the dialects of AWS, MinIO, RustFS, Ceph, VersityGW and moto: JSON in, Events out.

Accepted wrappers: `Records`, MinIO's `EventName`/`Key`/`Records`, EventBridge, SNS around any of them, and the
test event, which says nothing. All records of a notification are parsed, or none is.
"""

from __future__ import annotations

from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.errors import InvalidMessageError
from tidemill_storage_bridge.domain.objects import object_created, object_removed
from tidemill_storage_bridge.sources.reading import LONGEST_KEY, Node, Origin, checked_text, node, parse_json


class Change(Enum):
    """What an event name means for content."""

    CREATED = "created"
    REMOVED = "removed"
    NOTHING = "nothing"
    """Reads, tags, ACLs, restores: no new content."""


_NEW_CONTENT: Final = frozenset(
    f"ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload")
)  # ObjectCreated:* would include MinIO's tagging and retention changes
_REMOVALS: Final = frozenset(
    {
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "ObjectRemoved:DeleteAllVersions",
        "ObjectRemoved:DeleteObjects",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "LifecycleDelMarkerExpiration:Delete",
        "ObjectLifecycle:Expiration:Current",
    }
)
_BRIDGE_CHANGES: Final = {"Object Created": Change.CREATED, "Object Deleted": Change.REMOVED}


def parse_notification(document: object, origin: Origin) -> list[EventReceived]:
    """The Events of one notification body; none for a test event or changes that are not content.

    Raises:
        InvalidMessageError: It is no S3 notification, or a record lacks what names its object; says where.
    """
    outer = node(document, "")
    if isinstance(outer.members.get("Records"), list):
        return parse_records(outer, origin)
    if outer.members.get("Event") == "s3:TestEvent":
        return []
    if outer.members.get("source") == "aws.s3":
        return _bridge_event(outer, origin)
    if outer.members.get("Type") == "Notification":
        return _unwrapped(outer, origin)
    if outer.members.get("Type") == "SubscriptionConfirmation":
        raise InvalidMessageError("body: an SNS subscription has to be confirmed by hand (SubscribeURL)")
    raise InvalidMessageError("body: not an S3 notification (no Records, EventBridge event, SNS wrapper or test event)")


def parse_records(outer: Node, origin: Origin) -> list[EventReceived]:
    """The Events of a list of records."""
    records = outer.members.get("Records")
    assert isinstance(records, list)
    parsed = (
        parse_record(node(record, f"{outer.at('Records')}.{number}"), origin) for number, record in enumerate(records)
    )
    return [event for event in parsed if event is not None]


def parse_record(record: Node, origin: Origin) -> EventReceived | None:
    """The Event of one record; None: it is not about content."""
    name = record.text("eventName")
    change = change_of(name)
    if change is Change.NOTHING:
        return None
    details = record.child("s3")
    stored = details.child("object")
    etag = stored.optional_text("eTag")
    if change is Change.CREATED and etag is None and _is_ceph_initiation(record, name):
        return None
    key = _decoded(stored.text("key", longest=3 * LONGEST_KEY), stored.at("key"))
    version = _version_id(stored.optional_text("versionId"))
    artifact = ArtifactRef(
        provider=origin.provider,
        path=f"{_bucket(details.child('bucket'))}/{key}",
        etag=etag.strip('"') if etag else None,
        size=stored.size("size"),
        version=version,
    )
    told = version or stored.optional_text("sequencer") or f"{artifact.etag or ''}|{record.members.get('eventTime')}"
    make = object_created if change is Change.CREATED else object_removed
    return make(origin.source, artifact, version=told, time=record.time("eventTime"), principal=_principal(record))


def change_of(event_name: str) -> Change:
    """What an event name means, with or without the `s3:` that some dialects put before it."""
    name = event_name.removeprefix("s3:")
    if name in _NEW_CONTENT:
        return Change.CREATED
    return Change.REMOVED if name in _REMOVALS else Change.NOTHING


def _bridge_event(outer: Node, origin: Origin) -> list[EventReceived]:
    """EventBridge: dashes in names, and the key is not encoded."""
    change = _BRIDGE_CHANGES.get(outer.text("detail-type"))
    if change is None:
        return []
    detail = outer.child("detail")
    stored = detail.child("object")
    version = _version_id(stored.optional_text("version-id"))
    etag = stored.optional_text("etag") or stored.optional_text("eTag")
    artifact = ArtifactRef(
        provider=origin.provider,
        path=f"{_bucket(detail.child('bucket'))}/{stored.text('key', longest=LONGEST_KEY)}",
        etag=etag.strip('"') if etag else None,
        size=stored.size("size"),
        version=version,
    )
    told = version or stored.optional_text("sequencer") or f"{artifact.etag or ''}|{outer.members.get('time')}"
    make = object_created if change is Change.CREATED else object_removed
    principal = detail.optional_text("requester")
    return [make(origin.source, artifact, version=told, time=outer.time("time"), principal=principal)]


def _unwrapped(outer: Node, origin: Origin) -> list[EventReceived]:
    """SNS: the notification is a JSON text in `Message`."""
    inner = parse_json(outer.text("Message", longest=1024 * 1024), "Message")
    if isinstance(inner, dict) and inner.get("Type") == "Notification":
        raise InvalidMessageError("Message: an SNS wrapper in an SNS wrapper")
    return parse_notification(inner, origin)


def _is_ceph_initiation(record: Node, name: str) -> bool:
    """Ceph tells `Post` when a multi-part upload begins; the object is not there yet."""
    return record.members.get("eventSource") == "ceph:s3" and name.endswith("ObjectCreated:Post")


def _bucket(bucket: Node) -> str:
    name = bucket.text("name", longest=255)
    if "/" in name:
        raise InvalidMessageError(f"{bucket.at('name')}: a bucket's name has no slash")
    return name


def _decoded(key: str, where: str) -> str:
    """A form-encoded key, decoded exactly once."""
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidMessageError(f"{where}: not UTF-8") from error
    if not decoded:
        raise InvalidMessageError(f"{where}: empty")
    return checked_text(decoded, where, longest=LONGEST_KEY)


def _version_id(version: str | None) -> str | None:
    return None if version == "null" else version


def _principal(record: Node) -> str | None:
    identity = record.members.get("userIdentity")
    if not isinstance(identity, dict):
        return None
    found = Node(identity, record.at("userIdentity"))
    return found.optional_text("principalId") or found.optional_text("PrincipalId")
