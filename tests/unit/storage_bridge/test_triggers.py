"""The index of Triggers answers as a scan of all Services would."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.bus import Position
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.service import Service, ServiceDefined, StorageIO
from tidemill_storage_bridge.domain.triggers import Triggers

NOW = datetime(2026, 3, 4, tzinfo=UTC)

segments = st.lists(st.sampled_from(["a", "b", "in", "in.x", ""]), min_size=1, max_size=4)
paths = segments.map("/".join)
inputs = st.builds(
    StorageIO,
    storage_provider=st.sampled_from(["minio.default", "s3.other"]),
    path=paths,
    prefix=st.sampled_from([(), ("a",)]),
    suffix=st.sampled_from([(), ("b", ".x")]),
)
names = st.sampled_from(["one", "two", "three"])
definitions = st.builds(
    lambda name, entries, removed: definition(name, *entries, removed=removed),
    names,
    st.lists(inputs, max_size=3),
    st.booleans(),
)
artifacts = st.builds(ArtifactRef, provider=st.sampled_from(["minio.default", "s3.other"]), path=paths)


def definition(name: str, *entries: StorageIO, removed: bool = False, revision: int = 1) -> ServiceDefined:
    service = Service(name=ServiceName(name), image="i", script="s", input=tuple(entries))
    return ServiceDefined(name=service.name, revision=revision, at=NOW, service=None if removed else service)


def scan(newest: dict[str, ServiceDefined], artifact: ArtifactRef) -> list[tuple[str, str]]:
    found = []
    for name, defined in sorted(newest.items()):
        matching = [entry for entry in (defined.service.input if defined.service else ()) if entry.matches(artifact)]
        if matching:
            found.append((name, max(matching, key=lambda entry: len(entry.path)).trigger))
    return found


@given(st.lists(definitions, max_size=8), st.lists(artifacts, min_size=1, max_size=5))
def test_the_index_answers_as_a_scan_of_all_services(history: list[ServiceDefined], stored: list[ArtifactRef]) -> None:
    triggers = Triggers()
    for position, defined in enumerate(history, start=1):
        triggers.apply(defined, Position(position))
    newest = {str(defined.name): defined for defined in history}
    for artifact in stored:
        found = [(match.definition.name, match.trigger) for match in triggers.matching(artifact)]
        assert found == scan(newest, artifact)


@given(st.lists(definitions, min_size=1, max_size=6), st.randoms())
def test_the_order_in_which_records_are_applied_does_not_matter(history: list[ServiceDefined], random: object) -> None:
    records = [(defined, Position(position)) for position, defined in enumerate(history, start=1)]
    in_order, shuffled = Triggers(), Triggers()
    for defined, position in records:
        in_order.apply(defined, position)
    getattr(random, "shuffle")(records)  # noqa: B009 (st.randoms is typed as object)
    for defined, position in records:
        shuffled.apply(defined, position)
    for name in {defined.name for defined in history}:
        assert shuffled.definition(name) == in_order.definition(name)


def test_a_look_up_does_not_ask_services_elsewhere() -> None:
    """The cost is the depth of the path: of 5,000 Services only those on the way are looked at."""

    class Counting(StorageIO):
        def matches(self, artifact: ArtifactRef) -> bool:
            asked.append(self.path)
            return super().matches(artifact)

    asked: list[str] = []
    triggers = Triggers()
    for number in range(5000):
        entry = Counting(path=f"bucket{number}/in")
        triggers.apply(definition(f"s{number}", entry), Position(number + 1))
    (match,) = triggers.matching(ArtifactRef(path="bucket7/in/deep/er/a.txt"))
    assert match.definition.name == "s7"
    assert asked == ["bucket7/in"]


def test_folders_of_a_removed_service_are_watched_no_more() -> None:
    triggers = Triggers()
    triggers.apply(definition("ocr", StorageIO(path="b/in")), Position(1))
    assert [folder.input.path for folder in triggers.watched("minio.default")] == ["b/in"]
    triggers.apply(definition("ocr", removed=True, revision=2), Position(2))
    assert triggers.watched("minio.default") == []
    assert triggers.matching(ArtifactRef(path="b/in/x")) == []
