"""Recognises what a store posts to `/job` about a new object (OSCAR contract 5.1), so that it is staged in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from tidemill_common.contracts.contract import EventId, derive_id
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.service import Service

_KINDS: Final = {"minio:s3": "minio", "aws:s3": "s3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One stored object that a store tells of."""

    artifact: ArtifactRef
    version: str
    """What tells this content of the object from its others; see docs/internals.md, Ids of storage Events."""
    principal: str | None
    address: str | None
    """Where the object came from, as the store saw it."""

    def event_id(self, service: str) -> EventId:
        """Equal for a repeated notification of the same object to the same Service."""
        source = f"/gateway/{service}"
        return EventId(derive_id("object", source, self.artifact.bucket, self.artifact.key, self.version))


def recognise(body: bytes, service: Service) -> Notification | None:
    """The object that `Records[0]` tells of; None: the body is anything else."""
    if b'"Records"' not in body:
        return None
    try:
        return _from_record(msgspec.json.decode(body)["Records"][0], service)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None


def _from_record(record: Any, service: Service) -> Notification | None:
    if "ObjectRemoved" in str(record.get("eventName", "")):
        return None
    stored, bucket = record["s3"]["object"], str(record["s3"]["bucket"]["name"])
    key = unquote_plus(stored["key"])
    etag = str(stored.get("eTag") or "").strip('"')
    version = str(stored.get("versionId") or stored.get("sequencer") or f"{etag}|{record.get('eventTime', '')}")
    request = record.get("requestParameters") or {}
    return Notification(
        artifact=ArtifactRef(
            provider=_provider(str(record.get("eventSource", "")), bucket, service),
            path=f"{bucket}/{key}",
            etag=etag or None,
            size=stored.get("size") if isinstance(stored.get("size"), int) else None,
            version=str(stored["versionId"]) if stored.get("versionId") else None,
        ),
        version=version,
        principal=request.get("principalId") or None,
        address=request.get("sourceIPAddress") or None,
    )


def _provider(source: str, bucket: str, service: Service) -> str:
    """The provider of the Service's input that this bucket belongs to; else the default one of the dialect."""
    kind = _KINDS.get(source, "minio")
    known = (entry.storage_provider for entry in service.input if entry.bucket == bucket)
    matching = (provider for provider in known if provider.partition(".")[0] == kind)
    return next(matching, f"{kind}.default")
