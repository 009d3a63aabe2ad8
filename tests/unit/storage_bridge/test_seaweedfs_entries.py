"""What changes of SeaweedFS' metadata mean; shapes as measured with 4.48."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tidemill_common.contracts.event import OBJECT_CREATED, OBJECT_REMOVED, EventReceived
from tidemill_storage_bridge.sources.filer_pb2 import (
    Entry,
    EventNotification,
    FuseAttributes,
    SubscribeMetadataResponse,
)
from tidemill_storage_bridge.sources.seaweedfs_entries import events_of, single_changes

MTIME = 1795232580
TS = MTIME * 10**9 + 352_000_000


def entry(
    name: str = "a b.txt",
    *,
    etag: str = "e1",
    mtime: int = MTIME,
    folder: bool = False,
    extended: Mapping[str, str] | None = None,
) -> Entry:
    found = {key: value.encode() for key, value in (extended or {}).items()}
    if etag:
        found["Seaweed-X-Amz-ETag"] = etag.encode()
    attributes = FuseAttributes(file_size=5, mtime=mtime, md5=b"\x01\xff")
    return Entry(name=name, is_directory=folder, attributes=attributes, extended=found)


def change(
    directory: str, *, old: Entry | None = None, new: Entry | None = None, parent: str | None = None
) -> SubscribeMetadataResponse:
    notification = EventNotification(
        old_entry=old, new_entry=new, new_parent_path=parent or (directory if new is not None else "")
    )
    return SubscribeMetadataResponse(directory=directory, event_notification=notification, ts_ns=TS)


def events(found: SubscribeMetadataResponse) -> list[EventReceived]:
    return events_of(
        found, source="/sources/seaweedfs/minio.default", provider="minio.default", system_bucket="tidemill"
    )


def told(found: SubscribeMetadataResponse) -> list[tuple[str, str]]:
    return [(event.type, event.artifact.path) for event in events(found) if event.artifact is not None]


def test_a_new_object_is_told_with_its_facts() -> None:
    (event,) = events(change("/buckets/data/in", new=entry(extended={"Seaweed-X-Amz-Owner": "ana"})))
    assert event.artifact is not None
    assert (event.artifact.path, event.artifact.etag, event.artifact.size) == ("data/in/a b.txt", "e1", 5)
    assert (event.type, event.principal, event.time.timestamp()) == (OBJECT_CREATED, "ana", TS / 1e9)


def test_without_an_s3_etag_the_md5_stands_in() -> None:
    (event,) = events(change("/buckets/data/in", new=entry(etag="")))
    assert event.artifact is not None
    assert event.artifact.etag == "01ff"


@pytest.mark.parametrize(
    "found",
    [
        change("/buckets", new=entry("data", folder=True)),
        change("/buckets/data", new=entry("in", folder=True)),
        change("/buckets/data/.uploads/1", new=entry("0001.part")),
        change("/buckets/data/.uploads/1", old=entry("0001.part")),
        change("/buckets/.system/owners", new=entry("ana")),
        change("/buckets/tidemill/results", new=entry("r")),
        change("/buckets/data/in", old=entry(), new=entry(extended={"X-Amz-Tagging-k": "v"})),
        change("/etc/iam", new=entry("identity.json")),
        SubscribeMetadataResponse(ts_ns=TS),
    ],
)
def test_what_no_user_stored_is_no_event(found: SubscribeMetadataResponse) -> None:
    assert told(found) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (change("/buckets/data/in", old=entry(), new=entry(etag="e2")), [(OBJECT_CREATED, "data/in/a b.txt")]),
        (change("/buckets/data/in", old=entry(), new=entry(mtime=MTIME + 1)), [(OBJECT_CREATED, "data/in/a b.txt")]),
        (change("/buckets/data/in", old=entry()), [(OBJECT_REMOVED, "data/in/a b.txt")]),
        (
            change("/buckets/data/in", old=entry("x"), new=entry("y"), parent="/buckets/data/out"),
            [(OBJECT_REMOVED, "data/in/x"), (OBJECT_CREATED, "data/out/y")],
        ),
        (
            change("/buckets/data/v.txt.versions", new=entry("v_7", extended={"Seaweed-X-Amz-Version-Id": "7"})),
            [(OBJECT_CREATED, "data/v.txt")],
        ),
        (
            change(
                "/buckets/data/v.txt.versions",
                new=entry(
                    "v_8", etag="", extended={"Seaweed-X-Amz-Version-Id": "8", "Seaweed-X-Amz-Delete-Marker": "true"}
                ),
            ),
            [(OBJECT_REMOVED, "data/v.txt")],
        ),
        (
            change(
                "/buckets/data/v.txt.versions",
                old=entry("v_7", extended={"Seaweed-X-Amz-Version-Id": "7"}),
                new=entry("v_7", extended={"Seaweed-X-Amz-Version-Id": "7", "Seaweed-X-Amz-Noncurrent-Since-Ns": "1"}),
            ),
            [],
        ),
    ],
    ids=["overwrite", "same content again", "delete", "rename", "version", "delete marker", "version gets old"],
)
def test_changes_of_objects(found: SubscribeMetadataResponse, expected: list[tuple[str, str]]) -> None:
    assert told(found) == expected


def test_batches_are_taken_apart_in_order() -> None:
    first, second = change("/buckets/data", new=entry("1")), change("/buckets/data", new=entry("2"))
    batch = change("/buckets/data", new=entry("0"))
    batch.events.extend([first, SubscribeMetadataResponse(), second])
    assert [told(found)[0][1] for found in single_changes(batch)] == ["data/0", "data/1", "data/2"]
