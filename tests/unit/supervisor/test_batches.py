"""How batches are halved, and whose an output is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_supervisor.domain.batches import BatchInput, attribute, halves, local_names

CAT, DOG = BatchInput(id="i1", file="cat.png"), BatchInput(id="i2", file="dog.v2.png")


@given(st.lists(st.integers(), min_size=2, max_size=40))
def test_halves_are_all_of_it_and_none_is_empty(items: list[int]) -> None:
    left, right = halves(items)
    assert [*left, *right] == items
    assert 0 < len(right) <= len(left) <= len(right) + 1


@pytest.mark.parametrize(
    ("output", "owner", "stored"),
    [
        ("i1/result.json", "i1", "result.json"),
        ("i2/deep/cat.json", "i2", "deep/cat.json"),
        ("cat.json", "i1", "cat.json"),
        ("cat-1.png", "i1", "cat-1.png"),
        ("thumbs/cat_small.png", "i1", "thumbs/cat_small.png"),
        ("dog.v2.txt", "i2", "dog.v2.txt"),
    ],
)
def test_an_output_belongs_to_whose_folder_or_name_it_has(output: str, owner: str, stored: str) -> None:
    found = attribute([output], [CAT, DOG])
    assert found.stray == ()
    assert found.owned[owner] == {stored: output}


@pytest.mark.parametrize("output", ["summary.csv", "cats.json", "dog.json", "i3/x", "i1"])
def test_an_output_without_a_clear_owner_is_stray(output: str) -> None:
    assert attribute([output], [CAT, DOG]).stray == (output,)


def test_an_output_that_could_be_two_inputs_is_stray() -> None:
    page = BatchInput(id="i2", file="cat-1.pdf")
    assert attribute(["cat-1.png"], [CAT, page]).stray == ("cat-1.png",)


def test_the_results_decide_before_the_name() -> None:
    named = BatchInput(id="i2", file="dog.png", named=frozenset({"cat.json", "all.csv"}))
    found = attribute(["cat.json", "all.csv", "cat.txt"], [CAT, named])
    assert found.owned == {"i1": {"cat.txt": "cat.txt"}, "i2": {"cat.json": "cat.json", "all.csv": "all.csv"}}


def test_a_batch_of_one_owns_everything() -> None:
    found = attribute(["summary.csv", "i1/x"], [CAT])
    assert found.owned == {"i1": {"summary.csv": "summary.csv", "x": "i1/x"}}


def test_inputs_of_one_stem_get_names_of_their_own_that_outputs_lose_again() -> None:
    names = local_names([("i1", "cat.png"), ("i2", "cat.jpg"), ("i3", "cat.png")])
    assert names == {"i1": "cat.png", "i2": "i2-cat.jpg", "i3": "i3-cat.png"}
    inputs = [BatchInput(id=identity, file=name) for identity, name in names.items()]
    found = attribute(["cat.json", "i2-cat.json", "i3-cat.json"], inputs)
    assert [list(owned) for owned in found.owned.values()] == [["cat.json"], ["cat.json"], ["cat.json"]]


@given(st.lists(st.sampled_from(["a.txt", "a.csv", "b.txt", "a-1.txt", ".a", "a"]), max_size=8))
def test_inputs_never_share_a_name(names: list[str]) -> None:
    given_names = [(f"i{number}", name) for number, name in enumerate(names)]
    found = local_names(given_names)
    assert len(set(found.values())) == len(names)


def test_two_outputs_that_would_have_one_name_are_not_both_stored() -> None:
    assert attribute(["cat.json", "i1/cat.json"], [CAT, DOG]).stray == ("i1/cat.json",)


PATHS = st.lists(st.text("abi1-.", min_size=1, max_size=6).filter(lambda name: name not in (".", "..")), min_size=1)


@settings(max_examples=40)
@given(st.lists(PATHS.map("/".join), max_size=6, unique=True))
def test_each_output_is_counted_once(outputs: list[str]) -> None:
    found = attribute(outputs, [BatchInput(id="a", file="a.b"), BatchInput(id="i1", file="b.a")])
    assert sorted([*found.stray, *(name for owned in found.owned.values() for name in owned.values())]) == sorted(
        outputs
    )
