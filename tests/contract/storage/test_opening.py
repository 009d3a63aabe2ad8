"""Opening stores by name, and what a folder refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidemill_common.concurrently import each
from tidemill_common.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage.local import LocalObjectStore
from tidemill_common.storage.opening import open_store
from tidemill_common.storage.s3.clients import endpoint_of
from tidemill_common.storage.s3.odd_keys import is_odd
from tidemill_common.storage.s3.transfers import MAX_PARTS, MIB, part_size


@pytest.mark.parametrize(
    ("name", "fields", "error"),
    [
        ("minio.x", {}, InvalidInputError),
        ("minio.x", {"endpoint": "", "access_key": "a"}, InvalidInputError),
        ("minio.x", {"endpoint": "no-scheme:9000"}, InvalidInputError),
        ("minio.x", {"endpoint": "http://x", "verify": "perhaps"}, InvalidInputError),
        ("local.x", {}, InvalidInputError),
        ("ftp.x", {}, UnsupportedError),
    ],
)
async def test_what_cannot_be_opened_is_refused(
    name: str, fields: dict[str, object], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        async with open_store(name, fields) as store:
            await store.download("data/a", tmp_path / "a")


async def test_a_folder_can_be_opened(tmp_path: Path) -> None:
    async with open_store("local.x", {"root": str(tmp_path)}) as store:
        await store.put("data/a", b"1")
    assert (tmp_path / "data" / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("endpoint", "region", "url"),
    [
        (None, "eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        (None, "cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("http://127.0.0.1:8333/", "us-east-1", "http://127.0.0.1:8333"),
    ],
)
def test_aws_is_meant_when_no_endpoint_is_given(endpoint: str | None, region: str, url: str) -> None:
    assert endpoint_of(S3Credentials(endpoint=endpoint, region=region)) == url


@pytest.mark.parametrize(
    "path", ["../a", "data/../../a", "/etc/passwd", "data//a", "data/./a", ".tidemill/x", "a\0b", ""]
)
async def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "a").write_bytes(b"secret")
    store = LocalObjectStore(root)

    for call in (store.get(path), store.put(path, b"x"), store.delete(path), store.head(path)):
        with pytest.raises(InvalidInputError):
            await call
    assert (tmp_path / "a").read_bytes() == b"secret"


async def test_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "a")
    store = LocalObjectStore(root)

    for path in ("folder/a", "file"):
        with pytest.raises(AccessDeniedError):
            await store.get(path)
        with pytest.raises(AccessDeniedError):
            await store.put(path, b"x")
    with pytest.raises(AccessDeniedError):
        [info async for info in store.list("folder/")]
    assert (outside / "a").read_bytes() == b"secret"


async def test_a_folder_that_is_gone_is_a_provider_that_is_away(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "gone")

    with pytest.raises(UnavailableError):
        await store.put("data/a", b"1")
    with pytest.raises(UnavailableError):
        await store.get("data/a")
    with pytest.raises(UnavailableError):
        await store.head("data/a")


async def test_a_file_put_there_by_hand_is_an_object_without_metadata(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    await store.put("data/a", b"1", metadata={"tidemill-invocation": "i1"})
    (tmp_path / "data" / "a").write_bytes(b"by hand")

    info = await store.head("data/a")

    assert info is not None
    assert (info.metadata, info.size_bytes) == ({}, 7)


async def test_names_that_are_no_text_and_our_own_notes_are_not_listed(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    await store.put("data/a", b"1", metadata={"k": "v"})
    Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xff")).write_bytes(b"")

    assert [info.path async for info in store.list("data/")] == ["data/a"]
    with pytest.raises((NotFoundError, InvalidInputError)):
        [info async for info in store.list(".tidemill/")]


@pytest.mark.parametrize("key", ["in/", "/in", "a//b", "a/./b", "../b", "a\\b", "a\tb", "a\nb", "x\x7f"])
def test_keys_that_obstore_would_change_are_odd(key: str) -> None:
    assert is_odd(key)


@pytest.mark.parametrize("key", ["a", "in/a b", "..two", "a..", "é/😀", "a+b%20"])
def test_ordinary_keys_are_not_odd(key: str) -> None:
    assert not is_odd(key)


@pytest.mark.parametrize("size", [1, 8 * MIB, 100 * MIB, 80_000 * MIB, 80_001 * MIB, 5_000_000 * MIB])
def test_parts_are_few_enough_and_whole(size: int) -> None:
    assert part_size(size) >= 8 * MIB
    assert part_size(size) % MIB == 0
    assert -(-size // part_size(size)) <= MAX_PARTS


async def test_the_first_error_ends_the_others() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        if number == 3:
            raise UnavailableError("away")
        done.append(number)

    with pytest.raises(UnavailableError, match="away"):
        await each(range(100), work, concurrency=2)
    assert len(done) < 100
