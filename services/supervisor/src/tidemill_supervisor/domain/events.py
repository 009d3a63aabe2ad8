"""What the body of an Event is, by OSCAR's rules (contract 6.2), and how an Event of ours looks to a script.

Storage Events that our sources found are shown in the shape of a MinIO notification, because that is what scripts read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

from tidemill_common.contracts.event import OBJECT_REMOVED, ArtifactRef, EventReceived
from tidemill_common.contracts.service import Service, StorageIO

_DCACHE: Final = "webdav.dcache"
_RUCIO: Final = "rucio.rucio"
_RECORD_KINDS: Final = {"aws:s3": "s3", "minio:s3": "minio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a script gets to know of its Event."""

    raw: bytes
    """For EVENT and EVENT_FILE_PATH."""
    artifact: ArtifactRef | None = None
    """The stored object that it is about."""
    content: bytes | None = None
    """The input itself, when the Event is about no stored object."""
    object_key: str | None = None
    """Decoded, inside the bucket, with folder."""
    time: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters of API-gateway Events."""


def recognise(event: EventReceived, body: bytes, service: Service) -> Recognised:
    """What `event` is; `body` is its payload, wherever it travelled."""
    if event.artifact is not None:
        return _stored(event, event.artifact)
    try:
        return _recognise_body(body, service, raw=body, provider_id=None)
    except RecursionError:  # Events in Events in Events: no client's, but any caller can send it
        return Recognised(raw=body, content=body)


def storage_event(event: EventReceived, artifact: ArtifactRef) -> dict[str, Any]:
    """The Event of a stored object as a MinIO notification (contract 5.1), whatever told us of it."""
    name = "s3:ObjectRemoved:Delete" if event.type == OBJECT_REMOVED else "s3:ObjectCreated:Put"
    stored: dict[str, Any] = {"key": quote_plus(artifact.key, safe="")}
    stored |= {"size": artifact.size} if artifact.size else {}
    stored |= {"eTag": artifact.etag} if artifact.etag else {}
    stored |= {"versionId": artifact.version} if artifact.version else {}
    identity = {"principalId": event.principal or ""}
    record = {
        "eventVersion": "2.0",
        "eventSource": "aws:s3" if artifact.provider.startswith("s3.") else "minio:s3",
        "awsRegion": "",
        "eventTime": _time_of(event),
        "eventName": name,
        "userIdentity": identity,
        "requestParameters": {**identity, "region": "", "sourceIPAddress": ""},
        "responseElements": {},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": artifact.bucket, "ownerIdentity": identity, "arn": f"arn:aws:s3:::{artifact.bucket}"},
            "object": {**stored, "sequencer": event.id[:16].upper()},
        },
        "source": {"host": "", "port": "", "userAgent": "tidemill"},
    }
    return {"EventName": name, "Key": artifact.path, "Records": [record]}


def _stored(event: EventReceived, artifact: ArtifactRef) -> Recognised:
    raw = json.dumps(storage_event(event, artifact), separators=(",", ":"), ensure_ascii=False).encode()
    return Recognised(raw=raw, artifact=artifact, object_key=artifact.key, time=_time_of(event))


def _time_of(event: EventReceived) -> str:
    return event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _recognise_body(body: bytes, service: Service, *, raw: bytes, provider_id: str | None) -> Recognised:
    parsed = _json_object(body)
    if parsed is None:
        return Recognised(raw=raw, content=_decoded(body))
    if "httpMethod" in parsed:
        return _api_gateway(parsed, service, raw)
    if "event" in parsed and "subscription" in parsed:
        return _dcache(parsed, service, raw)
    if "event_type" in parsed and "scope" in _mapping(parsed.get("payload")):
        return _rucio(parsed, raw)
    if "event" in parsed:
        return _delegated(parsed, service, raw)
    return _from_records(parsed, service, raw, provider_id) or Recognised(raw=raw, content=_dump(parsed))


def _from_records(parsed: dict[str, Any], service: Service, raw: bytes, provider_id: str | None) -> Recognised | None:
    records = parsed.get("Records")
    record = _mapping(records[0]) if isinstance(records, list) and records else {}
    source = record.get("eventSource")
    if source in _RECORD_KINDS:
        return _s3_record(record, raw, _provider(_RECORD_KINDS[source], provider_id))
    if source == "OneTrigger":
        return _onedata(parsed, record, service, raw)
    return _rucio(parsed, raw) if source == "rucio" else None


def _s3_record(record: dict[str, Any], raw: bytes, provider: str) -> Recognised | None:
    s3 = _mapping(record.get("s3"))
    stored, bucket = _mapping(s3.get("object")), _mapping(s3.get("bucket")).get("name")
    if not isinstance(bucket, str) or not isinstance(stored.get("key"), str):
        return None
    key = unquote_plus(stored["key"])
    artifact = ArtifactRef(
        provider=provider,
        path=f"{bucket}/{key}",
        etag=_string(stored.get("eTag")),
        size=stored["size"] if isinstance(stored.get("size"), int) else None,
        version=_string(stored.get("versionId")),
    )
    return Recognised(raw=raw, artifact=artifact, object_key=key, time=_string(record.get("eventTime")))


def _onedata(parsed: dict[str, Any], record: dict[str, Any], service: Service, raw: bytes) -> Recognised | None:
    if not isinstance(parsed.get("Key"), str):
        return None
    path = parsed["Key"].lstrip("/")
    entry = next((entry for entry in service.input if entry.storage_provider.startswith("onedata.")), None)
    provider = entry.storage_provider if entry else "onedata.default"
    artifact = ArtifactRef(provider=provider, path=path)
    return Recognised(raw=raw, artifact=artifact, object_key=path, time=_string(record.get("eventTime")))


def _dcache(parsed: dict[str, Any], service: Service, raw: bytes) -> Recognised:
    name = _mapping(parsed["event"]).get("name")
    entry: StorageIO | None = next((entry for entry in service.input if entry.storage_provider == _DCACHE), None)
    if not isinstance(name, str) or entry is None:
        return Recognised(raw=raw, content=_dump(parsed))
    path = f"{entry.path}/{name}"
    return Recognised(raw=raw, artifact=ArtifactRef(provider=_DCACHE, path=path), object_key=path)


def _rucio(parsed: dict[str, Any], raw: bytes) -> Recognised:
    payload = _mapping(parsed.get("payload"))
    name = f"{payload.get('scope', '')}/{payload.get('name', '')}"
    return Recognised(raw=raw, artifact=ArtifactRef(provider=_RUCIO, path=name), object_key=name)


def _delegated(parsed: dict[str, Any], service: Service, raw: bytes) -> Recognised:
    """An Event that another cluster handed over, with the id of the provider that has its object."""
    inner = parsed["event"]
    body = inner.encode() if isinstance(inner, str) else json.dumps(inner).encode()
    provider = _string(parsed.get("storage_provider"))
    if _json_object(body) is None:
        return Recognised(raw=body, content=_decoded(body))
    return _recognise_body(body, service, raw=body, provider_id=provider)


def _api_gateway(parsed: dict[str, Any], service: Service, raw: bytes) -> Recognised:
    body = parsed.get("body")
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    query = _mapping(parsed.get("queryStringParameters"))
    content = _recognise_body(text.encode(), service, raw=raw, provider_id=None)
    return Recognised(
        raw=raw,
        artifact=content.artifact,
        content=content.content,
        object_key=content.object_key,
        time=content.time,
        query={str(name): str(value) for name, value in query.items()},
    )


def _provider(kind: str, provider_id: str | None) -> str:
    """The provider's name in full; delegating clusters send `default` as well as `minio.default` (contract 5.4)."""
    if provider_id is None:
        return f"{kind}.default"
    return provider_id if "." in provider_id else f"{kind}.{provider_id}"


def _decoded(body: bytes) -> bytes:
    """The bytes that base64 text stands for; what is no base64 as it came (OSCAR's supervisor would crash on it)."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return body


def _json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that the body is; None: something else (arrays and scalars are files)."""
    if not body:
        return None
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _dump(parsed: dict[str, Any]) -> bytes:
    return json.dumps(parsed, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
