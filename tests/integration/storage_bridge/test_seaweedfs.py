"""What users do with files on SeaweedFS, and what becomes of it: Events, and Invocations on WORK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.storage_bridge.platform import Platform, bridge, platform
from tests.servers import Running
from tidemill_common.contracts.event import OBJECT_CREATED, OBJECT_REMOVED
from tidemill_common.contracts.invocation import Change

pytestmark = pytest.mark.integration


@pytest.fixture
async def place(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


async def test_an_uploaded_file_becomes_an_invocation(place: Platform) -> None:
    await place.bucket("first")
    await place.apply("ocr", "first/in")
    async with bridge(place.settings):
        await place.put("first/in/a b+ü%.txt", b"hello")
        await place.until_waiting("ocr", 1)
    (invocation,) = await place.work("ocr", 1)
    (event,) = await place.events("first")
    assert invocation.event == event
    assert event.type == OBJECT_CREATED
    assert event.artifact is not None
    assert (event.artifact.path, event.artifact.size) == ("first/in/a b+ü%.txt", 5)
    assert event.artifact.etag == "5d41402abc4b2a76b9719d911017c592"
    (change,) = await place.changes("ocr")
    assert (change.change, change.invocation_id, change.owner) == (Change.REQUESTED, invocation.id, "ana")
    assert change.input == event.artifact


async def test_a_large_upload_in_parts_is_one_event(place: Platform, tmp_path: Path) -> None:
    await place.bucket("large")
    await place.apply("big", "large/in")
    (tmp_path / "file").write_bytes(b"z" * 40 * 1024**2)
    async with bridge(place.settings):
        await place.upload(tmp_path / "file", "large/in/big.bin")
        await place.until_waiting("big", 1)
        await place.put("large/last")
        first, last = await place.until_events("large", 2)
    assert first.artifact is not None
    assert "-" in (first.artifact.etag or "")
    assert (first.artifact.path, first.artifact.size) == ("large/in/big.bin", 40 * 1024**2)
    assert last.subject == "last"


async def test_folders_tags_and_files_elsewhere_trigger_nothing(place: Platform) -> None:
    await place.bucket("quiet")
    await place.apply("quiet", "quiet/in")
    async with bridge(place.settings):
        await place.put("quiet/in/", b"")
        await place.put("quiet/inner/x")
        await place.put("quiet/in/real")
        await place.until_waiting("quiet", 1)
        await place.until_events("quiet", 2)
    (invocation,) = await place.work("quiet", 1)
    assert invocation.event.subject == "in/real"
    found = sorted(str(event.subject) for event in await place.events("quiet"))  # a listing may be faster
    assert found == ["in/real", "inner/x"]


async def test_a_renamed_file_is_removed_there_and_new_here(place: Platform) -> None:
    await place.bucket("moves")
    await place.apply("moved", "moves/in")
    async with bridge(place.settings):
        await place.put("moves/draft/x")
        await place.until_events("moves", 1)
        await place.rename("moves/draft/x", "moves/in/x")
        await place.until_waiting("moved", 1)
        await place.until_events("moves", 3)
    events = [(event.type, event.subject) for event in await place.events("moves")]
    assert events[0] == (OBJECT_CREATED, "draft/x")
    assert sorted(events[1:]) == [(OBJECT_CREATED, "in/x"), (OBJECT_REMOVED, "draft/x")], "a listing may be faster"


async def test_an_overwrite_runs_again_and_a_removal_does_not(place: Platform) -> None:
    await place.bucket("twice")
    await place.apply("twice", "twice/in")
    async with bridge(place.settings):
        await place.put("twice/in/x", b"one")
        await place.put("twice/in/x", b"two")
        await place.delete("twice/in/x")
        events = await place.until_events("twice", 3)
        await place.until_waiting("twice", 2)
    assert sorted(event.type for event in events) == [OBJECT_CREATED, OBJECT_CREATED, OBJECT_REMOVED]
    assert len(await place.work("twice", 2)) == 2


async def test_files_that_came_while_the_bridge_was_down_are_found(place: Platform) -> None:
    await place.bucket("away")
    await place.apply("away", "away/in")
    async with bridge(place.settings):
        await place.put("away/in/before")
        await place.until_waiting("away", 1)
    for number in range(20):
        await place.put(f"away/in/{number}")
    async with bridge(place.settings):
        await place.until_waiting("away", 21)
    assert len(await place.work("away", 21)) == 21
    assert len(await place.events("away")) == 21


async def test_at_the_very_first_start_files_of_services_that_were_there_are_found(place: Platform) -> None:
    await place.bus.registers.delete("cursor.seaweedfs.minio.default")
    await place.bucket("early")
    await place.apply("early", "early/in")
    await place.put("early/in/x")
    async with bridge(place.settings):
        await place.until_waiting("early", 1)
    assert len(await place.work("early", 1)) == 1


async def test_a_service_applied_just_before_the_upload_is_not_missed(place: Platform) -> None:
    await place.bucket("race")
    async with bridge(place.settings):
        for number in range(20):
            await place.apply(f"race{number}", f"race/in{number}")
            await place.put(f"race/in{number}/x")
        for number in range(20):
            await place.until_waiting(f"race{number}", 1)
