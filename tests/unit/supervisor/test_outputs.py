"""Which file goes where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.contracts.service import StorageIO
from tidemill_supervisor.domain.outputs import OutputFile, plan_uploads
from tidemill_supervisor.staging import input_name


def files(*names: str) -> list[OutputFile]:
    return [OutputFile(name=name, path=Path("/out") / name, size_bytes=1) for name in names]


def targets(names: list[str], *outputs: StorageIO) -> list[tuple[str, str]]:
    return [(upload.provider, upload.path) for upload in plan_uploads(files(*names), outputs)]


def test_folders_are_kept_and_filters_see_the_whole_name() -> None:
    output = StorageIO(path="data/out", prefix=("maps/",), suffix=(".png", ".tif"))
    assert targets(["maps/b.tif", "maps/a.png", "maps/a.txt", "a.png"], output) == [
        ("minio.default", "data/out/maps/a.png"),
        ("minio.default", "data/out/maps/b.tif"),
    ]


def test_one_file_goes_to_several_outputs() -> None:
    both = StorageIO(path="one"), StorageIO(path="two/deep", storage_provider="s3.eu")
    assert targets(["a"], *both) == [("minio.default", "one/a"), ("s3.eu", "two/deep/a")]


def test_a_place_named_twice_is_written_once() -> None:
    assert targets(["a.png"], StorageIO(path="one"), StorageIO(path="one", suffix=(".png",))) == [
        ("minio.default", "one/a.png")
    ]


@given(st.lists(st.text(min_size=1), unique=True))
def test_places_do_not_depend_on_the_order_in_which_files_are_found(names: list[str]) -> None:
    output = StorageIO(path="one")
    assert targets(names, output) == targets(sorted(names, reverse=True), output)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("b/in/cat.png", "cat.png"),
        ("b/in/..", "input"),
        ("b/..", "input"),
        ("b", "b"),
        ("b/in/a b+c.tif", "a b+c.tif"),
        ("b/in/-rf", "-rf"),
        ("b/x\0y", "xy"),
        ("b/" + "n" * 300 + ".png", "n" * 251 + ".png"),
    ],
)
def test_inputs_get_a_name_that_can_be_written(path: str, name: str) -> None:
    assert input_name(path) == name


@given(st.text())
def test_no_key_leads_out_of_the_input_directory(key: str) -> None:
    name = input_name(f"bucket/{key}")
    assert "/" not in name
    assert "\0" not in name
    assert name not in ("", ".", "..")
