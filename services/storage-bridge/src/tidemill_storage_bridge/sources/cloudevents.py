"""CloudEvents 1.0 over HTTP in binary, structured and batch mode: headers and body in, Events out.

Those of an S3 store are about an object, and get the id of that object; the rest keep type, source and payload.
Spec: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from tidemill_common.contracts.contract import EventId, derive_id
from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.errors import InvalidMessageError
from tidemill_storage_bridge.domain.objects import object_created, object_removed
from tidemill_storage_bridge.sources.reading import LONGEST_KEY, Node, Origin, checked_text, node, parse_json
from tidemill_storage_bridge.sources.s3_notifications import Change, change_of, parse_record

_STRUCTURED: Final = "application/cloudevents"
_BATCH: Final = "application/cloudevents-batch"
_JSON: Final = "application/json"
_S3_ADAPTER: Final = "com.amazonaws.s3."
_TRIGGERMESH: Final = {
    "com.amazon.s3.objectcreated": Change.CREATED,
    "com.amazon.s3.objectremoved": Change.REMOVED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _CloudEvent:
    attributes: Node
    """Only texts are read from it."""
    data: bytes | None
    data_content_type: str | None


def is_cloudevent(headers: Mapping[str, str]) -> bool:
    """Whether a request carries CloudEvents; header names in lower case."""
    return headers.get("content-type", "").lower().startswith(_STRUCTURED) or "ce-specversion" in headers


def parse_cloudevents(
    headers: Mapping[str, str], body: bytes, origin: Origin, *, received: datetime
) -> list[EventReceived]:
    """The Events of one request, in order.

    Args:
        received: The time of Events that do not tell theirs.

    Raises:
        InvalidMessageError: It breaks the specification; says where. Nothing of a batch is kept then.
    """
    return [event for found in _cloudevents(headers, body) if (event := _event(found, origin, received)) is not None]


def _cloudevents(headers: Mapping[str, str], body: bytes) -> list[_CloudEvent]:
    content_type = headers.get("content-type", "").lower()
    if not content_type.startswith(_STRUCTURED):
        return [_binary(headers, body)]
    if "json" not in content_type:
        raise InvalidMessageError(f"content-type: only the JSON format is understood, not {content_type[:100]}")
    document = parse_json(body)
    if not content_type.startswith(_BATCH):
        return [_structured(node(document, ""))]
    if not isinstance(document, list):
        raise InvalidMessageError("body: a batch is a list")
    return [_structured(node(member, str(number))) for number, member in enumerate(document)]


def _binary(headers: Mapping[str, str], body: bytes) -> _CloudEvent:
    attributes = {
        name.removeprefix("ce-"): unquote(value.strip('"')) for name, value in headers.items() if name.startswith("ce-")
    }
    return _checked(Node(attributes, "ce"), body or None, headers.get("content-type"))


def _structured(event: Node) -> _CloudEvent:
    content_type = event.optional_text("datacontenttype")
    return _checked(event, _payload(event, content_type), content_type or _JSON)


def _payload(event: Node, content_type: str | None) -> bytes | None:
    if "data_base64" in event.members:
        try:
            return base64.b64decode(event.text("data_base64", longest=1024 * 1024), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidMessageError(f"{event.at('data_base64')}: not base64") from error
    data = event.members.get("data")
    if data is None:
        return None
    if isinstance(data, str) and content_type is not None and "json" not in content_type:
        return checked_text(data, event.at("data"), longest=1024 * 1024).encode()
    return json.dumps(data).encode()


def _checked(attributes: Node, data: bytes | None, content_type: str | None) -> _CloudEvent:
    if not attributes.text("specversion").startswith("1."):
        raise InvalidMessageError(f"{attributes.at('specversion')}: only 1.x is understood")
    for name in ("id", "source", "type"):
        attributes.text(name)
    return _CloudEvent(attributes=attributes, data=data, data_content_type=content_type)


def _event(found: _CloudEvent, origin: Origin, received: datetime) -> EventReceived | None:
    kind = found.attributes.text("type")
    if kind.startswith(_S3_ADAPTER):
        return _object_event(found, change_of(kind.removeprefix(_S3_ADAPTER)), origin, received)
    if kind in _TRIGGERMESH:
        return _object_event(found, _TRIGGERMESH[kind], origin, received)
    return _generic(found, origin, received)


def _object_event(found: _CloudEvent, change: Change, origin: Origin, received: datetime) -> EventReceived | None:
    """An Event about an object in S3: from its record if it carries one, else from subject and source."""
    if change is Change.NOTHING:
        return None
    record = _record(found)
    if record is not None:
        event = parse_record(record, origin)
        return _typed(event, found) if event is not None and change is Change.CREATED else event
    bucket = found.attributes.text("source").rpartition(".")[2].rpartition("/")[2].rpartition(":")[2]
    key = found.attributes.optional_text("subject", longest=LONGEST_KEY)
    if not bucket or key is None:
        return _generic(found, origin, received)
    artifact = ArtifactRef(provider=origin.provider, path=f"{bucket}/{key}")
    version = f"{found.attributes.text('source')}|{found.attributes.text('id')}"
    make = object_created if change is Change.CREATED else object_removed
    event = make(origin.source, artifact, version=version, time=_time(found, received))
    return _typed(event, found) if change is Change.CREATED else event


def _record(found: _CloudEvent) -> Node | None:
    """The S3 record in the payload, bare or in a list of one."""
    if found.data is None:
        return None
    try:
        document = parse_json(found.data, "data")
    except InvalidMessageError:
        return None
    if isinstance(document, dict):
        records = document.get("Records")
        if isinstance(records, list) and len(records) == 1:
            document = records[0]
    return Node(document, "data") if isinstance(document, dict) and "s3" in document else None


def _typed(event: EventReceived, found: _CloudEvent) -> EventReceived:
    """The Event with the type it came with."""
    return event.model_copy(update={"type": found.attributes.text("type")})


def _generic(found: _CloudEvent, origin: Origin, received: datetime) -> EventReceived:
    attributes = found.attributes
    source = attributes.text("source")
    return EventReceived(
        id=EventId(derive_id("cloudevent", origin.source, source, attributes.text("id"))),
        source=source,
        type=attributes.text("type"),
        subject=attributes.optional_text("subject", longest=LONGEST_KEY),
        time=_time(found, received),
        data=found.data,
        data_content_type=found.data_content_type,
        traceparent=attributes.optional_text("traceparent"),
    )


def _time(found: _CloudEvent, received: datetime) -> datetime:
    return found.attributes.time("time") if found.attributes.members.get("time") is not None else received
