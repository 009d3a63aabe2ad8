"""S3 on a real server: what is left behind, what happens when it is away, buckets, signed URLs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.storage.suite import credentials_of, pattern
from tests.servers import Running
from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TransientError,
    UnavailableError,
)
from tidemill_common.secrets import S3Credentials
from tidemill_common.storage import BucketStore
from tidemill_common.storage.files import appearing
from tidemill_common.storage.opening import open_buckets
from tidemill_common.storage.s3 import S3ObjectStore, objects, transfers

pytestmark = pytest.mark.integration


@pytest.fixture
def credentials(seaweed: Running) -> S3Credentials:
    """Keys of the module's server."""
    return credentials_of(seaweed)


@pytest.fixture
async def store(credentials: S3Credentials) -> AsyncIterator[S3ObjectStore]:
    """An open store with an empty bucket `data`."""
    async with S3ObjectStore.open(credentials) as store, open_buckets(credentials) as buckets:
        await buckets.create_bucket("data")
        yield store
        await buckets.delete_bucket("data")


@pytest.fixture
async def buckets(credentials: S3Credentials) -> AsyncIterator[BucketStore]:
    """The buckets of the server."""
    async with open_buckets(credentials) as buckets:
        yield buckets


async def parts_left(store: S3ObjectStore) -> list[Any]:
    """Multipart uploads that nobody ended."""
    client = await store._client.get()
    found: list[Any] = (await client.list_multipart_uploads(Bucket="data")).get("Uploads", [])
    return found


async def test_a_failed_upload_leaves_nothing(
    store: S3ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(pattern(40 << 20))

    def cut_short(moved: int) -> None:
        os.truncate(source, 1)

    with pytest.raises(Exception, match="became shorter"):
        await store.upload(source, "data/a", progress=cut_short)
    assert await store.head("data/a") is None
    assert await parts_left(store) == []


async def test_a_cancelled_upload_leaves_nothing(store: S3ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(pattern(40 << 20))
    begun = asyncio.Event()
    upload = asyncio.create_task(store.upload(tmp_path / "source", "data/a", progress=lambda _: begun.set()))
    await begun.wait()

    upload.cancel()

    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await store.head("data/a") is None
    assert await parts_left(store) == []


async def test_a_cancelled_download_leaves_nothing(store: S3ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(pattern(40 << 20))
    await store.upload(tmp_path / "source", "data/a")
    folder = tmp_path / "into"
    folder.mkdir()
    begun = asyncio.Event()
    download = asyncio.create_task(store.download("data/a", folder / "a", progress=lambda _: begun.set()))
    await begun.wait()

    download.cancel()

    with pytest.raises(asyncio.CancelledError):
        await download
    assert list(folder.iterdir()) == []


async def test_an_object_that_changes_under_a_download_is_noticed(store: S3ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(pattern(40 << 20))
    (tmp_path / "two").write_bytes(pattern((40 << 20) + 1))
    await store.upload(tmp_path / "one", "data/a")
    first = await store._first_range("data", "a", None)
    await store.upload(tmp_path / "two", "data/a")

    async with appearing(tmp_path / "target") as file:
        with pytest.raises(ConflictError):
            await transfers.copy_ranges(
                store._store("data"),
                "a",
                file,
                start=8 << 20,
                size=40 << 20,
                etag=first.meta["e_tag"],
                progress=lambda _: None,
            )


async def test_a_change_under_a_download_of_no_certain_content_may_be_tried_again(
    store: S3ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(pattern(20 << 20))
    written = await store.upload(tmp_path / "one", "data/a")
    usual = transfers.copy_body

    async def overwrite_first(*arguments: Any) -> None:
        monkeypatch.setattr(objects, "copy_body", usual)
        await store.put("data/a", b"new")
        await usual(*arguments)

    for etag, error in ((None, UnavailableError), (written.etag, ConflictError)):
        await store.upload(tmp_path / "one", "data/a")
        monkeypatch.setattr(objects, "copy_body", overwrite_first)
        with pytest.raises(error):
            await store.download("data/a", tmp_path / "target", etag=etag)
        assert not (tmp_path / "target").exists()


async def test_memory_stays_bounded(store: S3ObjectStore, tmp_path: Path) -> None:
    sizes: list[int] = []
    (tmp_path / "source").write_bytes(b"")
    os.truncate(tmp_path / "source", 400 << 20)
    before = resident_bytes()

    def watch(_: int) -> None:
        sizes.append(resident_bytes() - before)

    await store.upload(tmp_path / "source", "data/a", progress=watch)
    await store.download("data/a", tmp_path / "target", progress=watch)

    assert (tmp_path / "target").stat().st_size == 400 << 20
    assert max(sizes) < 200 << 20


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("key", ["in/", "a//b", "tab\tx", "back\\slash"])
async def test_odd_keys_are_kept_as_they_are(store: S3ObjectStore, tmp_path: Path, key: str) -> None:
    if key == "a//b":
        pytest.skip("SeaweedFS folds empty segments")
    body = b"" if key.endswith("/") else b"odd"
    await store.put(f"data/{key}", body, metadata={"k": "v"})

    info = await store.head(f"data/{key}")

    assert info is not None
    assert (info.path, info.size_bytes) == (f"data/{key}", len(body))
    if body:
        assert await store.get(f"data/{key}") == body
        await store.download(f"data/{key}", tmp_path / "odd", etag=info.etag)
        assert (tmp_path / "odd").read_bytes() == body


@pytest.mark.parametrize("wrong", [{"access_key": "stranger"}, {"secret_key": "wrong"}, {"access_key": ""}])
async def test_wrong_keys_are_refused(
    store: S3ObjectStore, credentials: S3Credentials, tmp_path: Path, wrong: dict[str, str]
) -> None:
    await store.put("data/a", b"1")
    other = credentials.model_copy(update=wrong)
    async with S3ObjectStore.open(other) as stranger, open_buckets(other) as buckets:
        for call in (
            stranger.get("data/a"),
            stranger.put("data/a", b"2"),
            stranger.download("data/a", tmp_path / "a"),
            buckets.create_bucket("other"),
        ):
            with pytest.raises(AccessDeniedError):
                await call


async def test_the_environment_of_the_process_does_not_count(
    credentials: S3Credentials, store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_REGION": "eu-west-9",
        "AWS_SKIP_SIGNATURE": "true",
    }.items():
        monkeypatch.setenv(name, value)
    async with S3ObjectStore.open(credentials) as fresh:
        await fresh.put("data/a", b"1")
        assert await fresh.get("data/a") == b"1"
        assert [info.path async for info in fresh.list("data/")] == ["data/a"]


async def test_a_bucket_is_made_once(buckets: BucketStore) -> None:
    assert await buckets.create_bucket("first-one") is True
    assert await buckets.create_bucket("first-one") is False
    assert "first-one" in await buckets.buckets()
    await buckets.delete_bucket("first-one")
    await buckets.delete_bucket("first-one")
    assert "first-one" not in await buckets.buckets()


async def test_a_bad_bucket_name_is_refused(buckets: BucketStore) -> None:
    with pytest.raises(InvalidInputError):
        await buckets.create_bucket("No_Such_Name")


async def test_a_bucket_goes_with_all_that_is_in_it(buckets: BucketStore, store: S3ObjectStore, tmp_path: Path) -> None:
    await buckets.create_bucket("doomed")
    await asyncio.gather(*(store.put(f"doomed/in/{number}/x", b"1") for number in range(1100)))
    await store.put("doomed/in/", b"")
    client = await store._client.get()
    await client.create_multipart_upload(Bucket="doomed", Key="unfinished")

    await buckets.delete_bucket("doomed")

    assert "doomed" not in await buckets.buckets()
    await buckets.create_bucket("doomed")
    assert [info async for info in store.list("doomed/")] == []
    await buckets.delete_bucket("doomed")


async def test_tags_are_replaced(buckets: BucketStore, store: S3ObjectStore) -> None:
    assert await buckets.tags("data") == {}
    await buckets.set_tags("data", {"owner": "me", "from_service": "a b"})
    assert await buckets.tags("data") == {"owner": "me", "from_service": "a b"}
    await buckets.set_tags("data", {"owner": "you"})
    assert await buckets.tags("data") == {"owner": "you"}
    await buckets.set_tags("data", {})
    assert await buckets.tags("data") == {}
    with pytest.raises(NotFoundError):
        await buckets.tags("no-such-bucket")


async def test_a_signed_url_lets_its_bearer_do_one_thing(buckets: BucketStore, store: S3ObjectStore) -> None:
    hour = timedelta(hours=1)
    upload = await buckets.presign("data/in/a b+é.txt", "upload", expires=hour, content_type="text/plain")
    download = await buckets.presign("data/in/a b+é.txt", "download", expires=hour)

    async with httpx.AsyncClient() as http:
        assert (await http.put(upload, content=b"x", headers={"content-type": "text/plain"})).status_code == 200
        assert (await http.get(download)).content == b"x"
        assert (await http.put(download, content=b"y")).status_code == 403
    assert await store.get("data/in/a b+é.txt") == b"x"
    with pytest.raises(InvalidInputError):
        await buckets.presign("data/a", "download", expires=timedelta(days=8))


async def _once_it_is_back(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """A store that answers again may not have found its volumes yet, and says 500 for a moment."""
    async with asyncio.timeout(30):
        while True:
            with suppress(TransientError):
                return await read()
            await asyncio.sleep(0.1)


async def test_a_store_that_is_away_is_said_to_be_unavailable(
    seaweed: Running, credentials: S3Credentials, tmp_path: Path
) -> None:
    (tmp_path / "small").write_bytes(b"1")
    (tmp_path / "large").write_bytes(pattern(9 << 20))
    async with S3ObjectStore.open(credentials) as store, open_buckets(credentials) as buckets:
        await buckets.create_bucket("data")
        await store.put("data/a", b"1")
        seaweed.kill()
        try:
            for call in (
                store.head("data/a"),
                store.get("data/a"),
                store.put("data/a", b"2"),
                store.download("data/a", tmp_path / "a"),
                store.upload(tmp_path / "small", "data/a"),
                store.upload(tmp_path / "large", "data/a"),
                store.delete("data/a"),
                buckets.buckets(),
                buckets.create_bucket("more"),
            ):
                with pytest.raises(TransientError):
                    async with asyncio.timeout(30):
                        await call
            with pytest.raises(TransientError):
                [info async for info in store.list("data/")]
        finally:
            seaweed.start()
        assert not (tmp_path / "a").exists()
        assert await _once_it_is_back(lambda: store.get("data/a")) == b"1"
