"""Whatever is sent: an Event that can travel, or an InvalidMessageError that says where."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.contracts.event import EventReceived
from tidemill_common.errors import InvalidMessageError
from tidemill_storage_bridge.sources.cloudevents import parse_cloudevents
from tidemill_storage_bridge.sources.reading import Origin, parse_json
from tidemill_storage_bridge.sources.s3_notifications import Change, change_of, parse_notification

LAB = Origin(name="lab", provider="minio.lab")
NOW = datetime(2026, 3, 4, tzinfo=UTC)
SAMPLES = Path(__file__).parents[2] / "contract" / "sources" / "samples"
DOCUMENTS = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "s3:ObjectCreated:Put",
            "ObjectRemoved:Delete",
            "\ud800",
            "%FF",
            "2026-01-01T00:00:00Z",
            "9999-12-31T23:59:59-23:59",
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A real notification in which something, somewhere, is something else."""
    document = deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        _damage(document, draw)
    return document


def _damage(document: Any, draw: st.DrawFn) -> None:
    at = document
    while isinstance(at, dict | list) and at:
        place = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
        inner = at[place]
        if isinstance(inner, dict | list) and inner and draw(st.integers(0, 5)):
            at = inner
            continue
        at[place] = draw(json_values)
        return


def _can_travel(events: list[EventReceived]) -> None:
    for event in events:
        assert EventReceived.decode(event.encode()) == event


@given(damaged() | json_values)
def test_no_s3_notification_raises_anything_else(document: Any) -> None:
    try:
        _can_travel(parse_notification(document, LAB))
    except InvalidMessageError:
        return


@given(damaged() | json_values, st.booleans())
def test_no_cloudevent_raises_anything_else(document: Any, batch: bool) -> None:
    content_type = "application/cloudevents-batch+json" if batch else "application/cloudevents+json"
    body = json.dumps([document] if batch else document).encode()
    try:
        _can_travel(parse_cloudevents({"content-type": content_type}, body, LAB, received=NOW))
    except InvalidMessageError:
        return


@given(
    st.dictionaries(st.sampled_from(["id", "source", "type", "subject", "time", "specversion"]), st.text()), st.binary()
)
def test_no_binary_cloudevent_raises_anything_else(attributes: dict[str, str], body: bytes) -> None:
    headers = {"ce-specversion": "1.0"} | {f"ce-{name}": value for name, value in attributes.items()}
    try:
        _can_travel(parse_cloudevents(headers, body, LAB, received=NOW))
    except InvalidMessageError:
        return


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 200_000, b"1" * 5000, b""])
def test_what_is_no_json_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        parse_json(body)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("s3:ObjectCreated:Put", Change.CREATED),
        ("ObjectCreated:Copy", Change.CREATED),
        ("ObjectCreated:PutTagging", Change.NOTHING),
        ("s3:ObjectAccessed:Get", Change.NOTHING),
        ("ObjectRemoved:DeleteMarkerCreated", Change.REMOVED),
        ("s3:ObjectRemoved:NoOP", Change.NOTHING),
    ],
)
def test_only_new_content_and_removals_count(name: str, change: Change) -> None:
    assert change_of(name) is change


def test_a_bad_record_says_where_it_is_bad() -> None:
    document = json.loads((SAMPLES / "aws-several-records.json").read_bytes())
    del document["Records"][1]["s3"]["object"]["key"]
    with pytest.raises(InvalidMessageError, match=r"Records\.1\.s3\.object\.key"):
        parse_notification(document, LAB)


def test_a_key_is_decoded_exactly_once() -> None:
    document = json.loads((SAMPLES / "aws-multipart.json").read_bytes())
    document["Records"][0]["s3"]["object"]["key"] = "in/100%2525+x%2B.txt"
    (event,) = parse_notification(document, LAB)
    assert event.subject == "in/100%25 x+.txt"


def test_a_repeat_has_the_same_id_and_an_overwrite_another() -> None:
    document = json.loads((SAMPLES / "minio-put.json").read_bytes())
    (first,) = parse_notification(document, LAB)
    document["Records"][0]["responseElements"] = {}
    (repeat,) = parse_notification(document, LAB)
    document["Records"][0]["s3"]["object"]["sequencer"] = "18E9ECECEDFC9999"
    (overwrite,) = parse_notification(document, LAB)
    assert first.id == repeat.id != overwrite.id
