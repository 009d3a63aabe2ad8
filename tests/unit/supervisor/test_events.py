"""Bodies are recognised by OSCAR's rules (contract 6.2), and stored objects look like MinIO's notifications."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.supervisor.builders import called_event, service, stored_event
from tidemill_common.contracts.event import OBJECT_REMOVED, ArtifactRef
from tidemill_supervisor.domain.events import Recognised, recognise


def recognised(body: bytes | dict[str, Any], **fields: Any) -> Recognised:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return recognise(called_event(raw), raw, service(**fields))


def record(source: str, key: str = "in%2Fplate+7%2Fa%2Bb.tif", bucket: str = "raw") -> dict[str, Any]:
    stored = {"key": key, "size": 7, "eTag": "5d41", "versionId": "v1"}
    s3 = {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": stored}
    return {"Records": [{"eventSource": source, "eventTime": "2026-03-04T10:11:12.345Z", "s3": s3}]}


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (base64.b64encode(b"\x00\x01picture"), b"\x00\x01picture"),
        (base64.encodebytes(b"x" * 200), b"x" * 200),
        (b"not base64!", b"not base64!"),
        (b"\xff\xd8\xff raw", b"\xff\xd8\xff raw"),
        (b"", b""),
        (b"1234", base64.b64decode(b"1234")),
        (b"[1, 2]", b"[1, 2]"),
        (b'"text"', b'"text"'),
        (b'{"a":1, "b":"\xc3\xa9"}', '{"a": 1, "b": "é"}'.encode()),
        (b'{"Records":[]}', b'{"Records": []}'),
        (b'{"Records":[{}]}', b'{"Records": [{}]}'),
        (b'{"Records":"x"}', b'{"Records": "x"}'),
        (b'{"Records":[{"eventSource":"minio:s3"}]}', b'{"Records": [{"eventSource": "minio:s3"}]}'),
    ],
)
def test_what_is_no_storage_event_is_the_input_itself(body: bytes, content: bytes) -> None:
    found = recognised(body)
    assert (found.artifact, found.content, found.raw) == (None, content, body)


@given(st.binary(max_size=300))
def test_base64_arrives_as_the_bytes_it_stands_for(data: bytes) -> None:
    encoded = base64.b64encode(data)
    found = recognised(encoded)
    assert found.content == data


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | inner))
def test_no_json_breaks_recognition(value: Any) -> None:
    for key in ("event", "Records", "payload", "httpMethod", "body"):
        body = {key: value, "event_type": "x", "subscription": value, "Key": value}
        assert recognised(body).raw


@pytest.mark.parametrize("body", [b'{"event":' * 3000 + b"1" + b"}" * 3000, b'{"event":' * 400 + b"{}" + b"}" * 400])
def test_events_in_events_end(body: bytes) -> None:
    assert recognised(body).raw


@pytest.mark.parametrize(("source", "provider"), [("minio:s3", "minio.default"), ("aws:s3", "s3.default")])
def test_records_of_s3_stores_name_their_object(source: str, provider: str) -> None:
    found = recognised(record(source))
    assert found.artifact == ArtifactRef(
        provider=provider, path="raw/in/plate 7/a+b.tif", etag="5d41", size=7, version="v1"
    )
    assert (found.object_key, found.time) == ("in/plate 7/a+b.tif", "2026-03-04T10:11:12.345Z")


@pytest.mark.parametrize(
    ("sent", "provider"),
    [
        ("default", "minio.default"),
        ("minio.default", "minio.default"),
        ("remote", "minio.remote"),
        (None, "minio.default"),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_a_delegated_event_names_its_provider(sent: str | None, provider: str, as_text: bool) -> None:
    inner: Any = json.dumps(record("minio:s3")) if as_text else record("minio:s3")
    found = recognised({"storage_provider": sent, "event": inner})
    assert found.artifact is not None
    assert found.artifact.provider == provider
    assert "Records" in json.loads(found.raw)


def test_a_dcache_event_is_below_the_dcache_input() -> None:
    body = {"event": {"name": "a.jpg", "mask": ["IN_CREATE"]}, "subscription": "https://x"}
    found = recognised(body, input=[{"storage_provider": "webdav.dcache", "path": "data/in"}])
    assert found.artifact == ArtifactRef(provider="webdav.dcache", path="data/in/a.jpg")
    assert recognised(body).artifact is None


def test_an_onedata_event_is_in_its_space() -> None:
    body = {"Key": "/space/dir/f.txt", "Records": [{"eventSource": "OneTrigger", "objectKey": "f.txt"}]}
    found = recognised(body, input=[{"storage_provider": "onedata.lab", "path": "space/dir"}])
    assert found.artifact == ArtifactRef(provider="onedata.lab", path="space/dir/f.txt")


def test_a_rucio_event_names_its_dataset() -> None:
    found = recognised({"event_type": "close", "payload": {"scope": "user", "name": "set"}})
    assert found.artifact is not None
    assert (found.artifact.provider, found.artifact.path) == ("rucio.rucio", "user/set")


def test_an_api_gateway_event_gives_its_body_and_query() -> None:
    found = recognised({"httpMethod": "POST", "body": "aGVsbG8=", "queryStringParameters": {"q": "1"}})
    assert (found.content, found.query) == (b"hello", {"q": "1"})


def test_a_stored_object_looks_like_a_notification_of_minio() -> None:
    event = stored_event("raw/in/plate 7/a+b.tif", etag="5d41", size=7, principal="AK")
    found = recognise(event, b"", service())
    shown = json.loads(found.raw)
    assert shown["Key"] == "raw/in/plate 7/a+b.tif"
    assert shown["Records"][0]["s3"]["object"]["key"] == "in%2Fplate+7%2Fa%2Bb.tif"
    assert shown["Records"][0]["s3"]["bucket"] == {
        "name": "raw",
        "ownerIdentity": {"principalId": "AK"},
        "arn": "arn:aws:s3:::raw",
    }
    assert (found.object_key, found.time) == ("in/plate 7/a+b.tif", "2026-03-04T10:11:12.345Z")


@given(st.text(min_size=1, max_size=50).filter(lambda key: key.encode("utf-8", "replace").decode() == key))
def test_a_shown_event_names_the_same_object_when_it_comes_back(key: str) -> None:
    found = recognise(stored_event(f"raw/{key}", etag="5d"), b"", service())
    again = recognised(found.raw)
    assert (again.artifact, again.object_key) == (found.artifact, found.object_key)


def test_a_removed_object_is_shown_as_removed() -> None:
    found = recognise(stored_event(type=OBJECT_REMOVED), b"", service())
    assert json.loads(found.raw)["EventName"] == "s3:ObjectRemoved:Delete"
