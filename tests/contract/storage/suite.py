"""What every object store does, whatever is behind it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import Running
from tidemill.platform.servers import SeaweedServer
from tidemill_common.errors import ConflictError, NotFoundError
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import ObjectStore

LARGE_BYTES = 40 * 1024 * 1024
KEYS = [
    "plain.txt",
    "with blank and.dots.tar.gz",
    "a+b=c&d?e#f%20.txt",
    "ünï/çödé/文件-😀.csv",
    "~*'()!@$,;:[]{}|^`\"<>",
    ".hidden",
    "..two",
    " outer blanks ",
]


def credentials_of(running: Running) -> S3Credentials:
    """Keys of a test's server."""
    assert isinstance(running.server, SeaweedServer)
    return S3Credentials(endpoint=running.server.endpoint, access_key="testkey", secret_key="testsecret")


def pattern(size: int) -> bytes:
    """Bytes that differ from place to place."""
    block = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(2048))
    return (block * (size // len(block) + 1))[: size - 4] + size.to_bytes(4, "big") if size >= 4 else block[:size]


class ObjectStoreContract:
    """Subclass it with a fixture `store`, whose bucket `data` is there and empty."""

    name_may_be_folder = True
    """Whether a name can be an object and a folder at once."""
    in_byte_order = True
    """Whether a listing is in the order of the paths' bytes; else folder by folder."""

    async def test_what_was_put_is_got(self, store: ObjectStore) -> None:
        before = datetime.now(UTC)
        written = await store.put("data/in/a.txt", b"hello", metadata={"Tidemill-Invocation": "i1"})

        assert await store.get("data/in/a.txt") == b"hello"
        info = await store.head("data/in/a.txt")
        assert info is not None
        assert (info.path, info.size_bytes, info.metadata) == ("data/in/a.txt", 5, {"tidemill-invocation": "i1"})
        assert abs((info.modified - before).total_seconds()) < 60
        assert info.etag
        assert '"' not in info.etag
        assert (written.etag, written.size_bytes, written.path) == (info.etag, 5, "data/in/a.txt")

    async def test_an_empty_object_is_an_object(self, store: ObjectStore, tmp_path: Path) -> None:
        await store.put("data/empty", b"")

        info = await store.download("data/empty", tmp_path / "empty")

        assert info.size_bytes == 0
        assert await store.get("data/empty") == b""
        assert (tmp_path / "empty").read_bytes() == b""

    async def test_writing_again_replaces(self, store: ObjectStore) -> None:
        first = await store.put("data/a", b"1", metadata={"old": "1"})
        second = await store.put("data/a", b"22")

        info = await store.head("data/a")
        assert info is not None
        assert (info.size_bytes, info.metadata, info.etag) == (2, {}, second.etag)
        assert first.etag != second.etag

    async def test_what_is_not_there_is_said_so(self, store: ObjectStore, tmp_path: Path) -> None:
        assert await store.head("data/none") is None
        assert await store.head("no-such-bucket/none") is None
        for path in ("data/none", "no-such-bucket/none"):
            with pytest.raises(NotFoundError):
                await store.get(path)
            with pytest.raises(NotFoundError):
                await store.download(path, tmp_path / "none")
        assert list(tmp_path.iterdir()) == []

    async def test_listing_a_bucket_that_is_not_there_is_an_error(self, store: ObjectStore) -> None:
        with pytest.raises(NotFoundError):
            [info async for info in store.list("no-such-bucket/")]

    @pytest.mark.parametrize("key", KEYS)
    async def test_any_key_is_kept_as_it_is(self, store: ObjectStore, tmp_path: Path, key: str) -> None:
        path = f"data/odd/{key}"
        await store.put(path, key.encode())
        await store.download(path, tmp_path / "copy")

        assert [info.path async for info in store.list("data/odd/")] == [path]
        assert (tmp_path / "copy").read_bytes() == key.encode()
        info = await store.head(path)
        assert info is not None
        assert info.path == path
        await store.delete(path)
        assert [info.path async for info in store.list("data/odd/")] == []

    async def test_a_folder_marker_can_be_made(self, store: ObjectStore) -> None:
        await store.put("data/in/", b"")
        await store.put("data/in/a", b"1")

        assert await store.head("data/in/") is not None
        assert [info.path async for info in store.list("data/") if not info.path.endswith("/")] == ["data/in/a"]

    @pytest.mark.parametrize("size", [1, 8 * 1024 * 1024, 8 * 1024 * 1024 + 1, LARGE_BYTES])
    async def test_files_of_any_size_go_up_and_come_down_whole(
        self, store: ObjectStore, tmp_path: Path, size: int
    ) -> None:
        content, up, down = pattern(size), list[int](), list[int]()
        (tmp_path / "source").write_bytes(content)

        written = await store.upload(
            tmp_path / "source",
            "data/out/result.bin",
            metadata={"tidemill-invocation": "i1", "tidemill-sha256": "ab"},
            content_type="application/x-test",
            progress=up.append,
        )
        info = await store.download("data/out/result.bin", tmp_path / "target", progress=down.append)

        assert (tmp_path / "target").read_bytes() == content
        assert sum(up) == sum(down) == size
        assert (info.size_bytes, info.etag) == (size, written.etag)
        assert info.metadata == {"tidemill-invocation": "i1", "tidemill-sha256": "ab"}
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["source", "target"]

    async def test_exactly_the_announced_content_is_fetched(self, store: ObjectStore, tmp_path: Path) -> None:
        old = await store.put("data/a", b"old")
        new = await store.put("data/a", b"newer")

        with pytest.raises(ConflictError):
            await store.download("data/a", tmp_path / "a", etag=old.etag)
        assert not (tmp_path / "a").exists()
        await store.download("data/a", tmp_path / "a", etag=new.etag)
        assert (tmp_path / "a").read_bytes() == b"newer"

    async def test_a_download_replaces_the_file(self, store: ObjectStore, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"something longer")
        await store.put("data/a", b"new")

        await store.download("data/a", tmp_path / "a")

        assert (tmp_path / "a").read_bytes() == b"new"

    async def test_a_listing_is_in_the_order_of_paths(self, store: ObjectStore) -> None:
        keys = ["in/b", "in/a/1", "in/a-b", "in/a", "in/a0", "in/B", "in/é", "other/x", "in2/y"]
        wanted = [key for key in keys if key != "in/a" or self.name_may_be_folder]
        for key in wanted:
            await store.put(f"data/{key}", key.encode())

        found = [info async for info in store.list("data/in/")]

        paths = [info.path for info in found]
        assert sorted(paths) == sorted(f"data/{key}" for key in wanted if key.startswith("in/"))
        assert paths == sorted(paths, key=None if self.in_byte_order else _segments)
        assert {info.path: info.size_bytes for info in found} == {
            f"data/{key}": len(key.encode()) for key in wanted if key.startswith("in/")
        }
        head = await store.head("data/in/b")
        assert head is not None
        assert {info.etag for info in found if info.path == "data/in/b"} == {head.etag}

    async def test_a_prefix_may_end_within_a_name(self, store: ObjectStore) -> None:
        for key in ("in/abc", "in/abd/x", "in/b"):
            await store.put(f"data/{key}", b"")

        assert [info.path async for info in store.list("data/in/ab")] == ["data/in/abc", "data/in/abd/x"]
        assert [info.path async for info in store.list("data/none/")] == []

    async def test_a_listing_can_be_resumed_anywhere(self, store: ObjectStore) -> None:
        for path in [f"data/in/{folder}/{number}" for folder in ("a", "b-", "b", "c") for number in range(3)]:
            await store.put(path, b"")
        paths = [info.path async for info in store.list("data/in/")]

        for number, after in enumerate(paths):
            assert [info.path async for info in store.list("data/in/", after=after)] == paths[number + 1 :], after
        for before in ("data", "data/a", "a"):
            assert [info.path async for info in store.list("data/in/", after=before)] == paths, before
        for behind in ("data/z", "e"):
            assert [info.path async for info in store.list("data/in/", after=behind)] == [], behind

    async def test_a_listing_of_several_pages_is_whole(self, store: ObjectStore) -> None:
        wanted = {f"data/in/{number % 7}/{number:04}" for number in range(1, 1105)}
        await asyncio.gather(*(store.put(path, b"") for path in wanted))

        found = [info.path async for info in store.list("data/in/")]

        assert len(found) == len(wanted)
        assert set(found) == wanted

    async def test_deleting_twice_is_deleting_once(self, store: ObjectStore) -> None:
        await store.put("data/in/a", b"1")

        await store.delete("data/in/a")
        await store.delete("data/in/a")
        await store.delete("no-such-bucket/a")

        assert await store.head("data/in/a") is None

    async def test_many_at_a_time_do_not_mix(self, store: ObjectStore, tmp_path: Path) -> None:
        async def round_trip(number: int) -> bool:
            content = f"{number}".encode() * (number + 1)
            source, target = tmp_path / f"s{number}", tmp_path / f"t{number}"
            source.write_bytes(content)
            await store.upload(source, f"data/many/{number}", metadata={"n": str(number)})
            info = await store.download(f"data/many/{number}", target)
            return target.read_bytes() == content and info.metadata == {"n": str(number)}

        assert all(await asyncio.gather(*(round_trip(number) for number in range(40))))


def _segments(path: str) -> list[str]:
    return path.split("/")
