"""What counts as missing in EVENTS."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.storage_bridge.samples import NOW, stored
from tidemill_common.contracts.event import OBJECT_REMOVED, ArtifactRef
from tidemill_storage_bridge.domain.gaps import KnownObjects, Memory, outermost, reach

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("etag", "modified", "known"),
    [
        ("e", NOW, True),
        ("e", NOW - DAY, True),
        ("e", NOW + 2 * SECOND, True),
        ("e", NOW + 3 * SECOND, False),
        ("other", NOW, False),
        (None, NOW, False),
    ],
)
def test_an_event_knows_its_content_until_it_is_written_again(etag: str | None, modified: object, known: bool) -> None:
    objects = KnownObjects()
    objects.add(stored("data/in/x", etag="e"))
    artifact = ArtifactRef(path="data/in/x", etag=etag)
    assert objects.has(artifact, modified=modified) is known  # type: ignore[arg-type] # the table's columns are objects


def test_an_event_without_etag_counts_for_any_content() -> None:
    objects = KnownObjects()
    objects.add(stored("data/in/x"))
    assert objects.has(ArtifactRef(path="data/in/x", etag="e"), modified=NOW)


def test_a_removal_says_nothing_about_content() -> None:
    objects = KnownObjects()
    objects.add(stored("data/in/x", etag="e").model_copy(update={"type": OBJECT_REMOVED}))
    assert not objects.has(ArtifactRef(path="data/in/x", etag="e"), modified=NOW)


@pytest.mark.parametrize(
    ("memory", "handled", "expected"),
    [
        (Memory(complete=True, oldest=None), None, NOW - 2 * SECOND),
        (Memory(complete=True, oldest=NOW - DAY), None, NOW - DAY - 2 * SECOND),
        (Memory(complete=True, oldest=NOW + DAY), None, NOW - 2 * SECOND),
        (Memory(complete=False, oldest=NOW + DAY), None, NOW + DAY),
        (Memory(complete=False, oldest=None), NOW - DAY, NOW - DAY),
        (Memory(complete=False, oldest=None), None, None),
    ],
)
def test_objects_are_submitted_unasked_as_far_back_as_nothing_can_be_forgotten(
    memory: Memory, handled: object, expected: object
) -> None:
    assert reach(memory, defined=NOW, handled=handled) == expected  # type: ignore[arg-type] # as above


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a.b"]), min_size=1, max_size=3).map("/".join), max_size=6))
def test_listing_the_outermost_folders_lists_everything_once(paths: list[str]) -> None:
    kept = outermost(paths)
    for path in paths:
        assert sum(path == other or path.startswith(f"{other}/") for other in kept) == 1
