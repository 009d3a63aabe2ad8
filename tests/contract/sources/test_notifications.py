"""Notifications as real stores send them, and what they mean. Samples are append-only."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill_common.contracts.event import OBJECT_CREATED, OBJECT_REMOVED, EventReceived
from tidemill_storage_bridge.sources.cloudevents import parse_cloudevents
from tidemill_storage_bridge.sources.reading import Origin
from tidemill_storage_bridge.sources.s3_notifications import parse_notification

SAMPLES = Path(__file__).parent / "samples"
LAB = Origin(name="lab", provider="minio.lab")
NOW = datetime(2026, 3, 4, tzinfo=UTC)
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def notification(name: str) -> list[EventReceived]:
    return parse_notification(json.loads((SAMPLES / f"{name}.json").read_bytes()), LAB)


def cloudevent(name: str) -> EventReceived:
    (event,) = parse_cloudevents(STRUCTURED, (SAMPLES / f"{name}.json").read_bytes(), LAB, received=NOW)
    return event


@pytest.mark.parametrize(
    ("sample", "path", "size", "etag", "version"),
    [
        ("minio-put", "events/in/a b+ü.txt", 5, "5d41402abc4b2a76b9719d911017c592", None),
        (
            "aws-multipart",
            "raw-scans/in/plate 7/img(1).tif",
            73400320,
            "9b2cf535f27731c974343645a3985328-9",
            "pQ4w.Zk1",
        ),
        (
            "eventbridge-created",
            "raw-scans/in/plate 7/a+b%41.tif",
            73400320,
            "9b2cf535f27731c974343645a3985328-9",
            "pQ4w.Zk1",
        ),
        ("eventbridge-moto", "raw/a.txt", 3, "abc", None),
        ("sns-wrapped", "raw-scans/in/plate 7/img(1).tif", 73400320, "9b2cf535f27731c974343645a3985328-9", "pQ4w.Zk1"),
        ("ceph-put", "raw-scans/in/a.tif", 1024, "37b51d194a7513e45b56f6524f2d51f2", None),
        ("rustfs-put", "raw-scans/in/empty.bin", 0, "d41d8cd98f00b204e9800998ecf8427e", None),
        ("versitygw-put", "raw-scans/in/v.bin", 5, "5d41402abc4b2a76b9719d911017c592", None),
        ("moto-put", "raw-scans/in/m.bin", 5, "5d41402abc4b2a76b9719d911017c592", None),
    ],
)
def test_a_stored_object_is_told_alike_by_every_dialect(
    sample: str, path: str, size: int, etag: str, version: str | None
) -> None:
    (event,) = notification(sample)
    assert event.artifact is not None
    assert (event.artifact.path, event.artifact.size, event.artifact.etag) == (path, size, etag)
    assert event.artifact.version == version
    assert event.artifact.provider == "minio.lab"
    assert event.type == OBJECT_CREATED
    assert event.source == "/sources/http/lab"
    assert event.subject == event.artifact.key


@pytest.mark.parametrize(
    ("sample", "path"), [("minio-delete", "events/new/1"), ("eventbridge-deleted", "raw-scans/in/gone.tif")]
)
def test_removals_are_kept_as_removals(sample: str, path: str) -> None:
    (event,) = notification(sample)
    assert event.artifact is not None
    assert (event.type, event.artifact.path) == (OBJECT_REMOVED, path)


@pytest.mark.parametrize("sample", ["aws-test-event", "aws-tagging", "minio-retention", "ceph-multipart-begins"])
def test_what_is_not_new_content_makes_no_event(sample: str) -> None:
    assert notification(sample) == []


def test_every_record_of_a_notification_makes_its_event() -> None:
    events = notification("aws-several-records")
    assert [event.subject for event in events] == ["in/plate 7/img(1).tif", "in/second.tif", "in/old.tif"]
    assert [event.type for event in events] == [OBJECT_CREATED, OBJECT_CREATED, OBJECT_REMOVED]
    assert len({event.id for event in events}) == 3


def test_wrappers_do_not_change_the_id() -> None:
    assert notification("sns-wrapped")[0].id == notification("aws-multipart")[0].id
    assert notification("minio-kafka")[0].id == notification("minio-put")[0].id


def test_the_principal_is_told() -> None:
    assert notification("minio-put")[0].principal == "minioadmin"
    assert notification("versitygw-put")[0].principal == "root"


def test_a_cloudevent_of_the_s3_adapter_is_about_the_object_and_has_its_id() -> None:
    event = cloudevent("cloudevent-s3-adapter")
    assert event.artifact is not None
    assert event.artifact.path == "raw-scans/in/plate 7/img(1).tif"
    assert event.type == "com.amazonaws.s3.ObjectCreated:Put"
    assert event.id == notification("aws-multipart")[0].id


def test_other_cloudevents_keep_what_they_came_with() -> None:
    event = cloudevent("cloudevent-generic")
    assert (event.source, event.type, event.subject) == ("/lab/microscope", "org.example.run.finished", "run-9")
    assert json.loads(event.data or b"") == {"frames": 12}
    assert event.artifact is None
    assert event.traceparent is not None
    assert cloudevent("cloudevent-base64").data == b"\x00\x01\x02"
    assert cloudevent("cloudevent-google").artifact is None


def test_binary_mode_says_the_same_as_structured_mode() -> None:
    document = json.loads((SAMPLES / "cloudevent-s3-adapter.json").read_bytes())
    headers = {f"ce-{name}": str(value) for name, value in document.items() if name not in ("data", "datacontenttype")}
    headers |= {"content-type": "application/json", "ce-subject": "in/plate%207/img(1).tif"}
    (event,) = parse_cloudevents(headers, json.dumps(document["data"]).encode(), LAB, received=NOW)
    assert event == cloudevent("cloudevent-s3-adapter")


def test_a_batch_makes_its_events_in_order() -> None:
    samples = ("cloudevent-generic", "cloudevent-base64")
    body = json.dumps([json.loads((SAMPLES / f"{name}.json").read_bytes()) for name in samples]).encode()
    headers = {"content-type": "application/cloudevents-batch+json"}
    events = parse_cloudevents(headers, body, LAB, received=NOW)
    assert events == [cloudevent(name) for name in samples]
    assert parse_cloudevents(headers, b"[]", LAB, received=NOW) == []
