"""What was once published parses for ever; bad bodies say where they are bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.contracts.contract import derive_id, subject_token
from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.contracts.service import StorageIO
from tidemill_common.errors import InvalidMessageError


def test_a_body_that_breaks_its_contract_says_where() -> None:
    with pytest.raises(InvalidMessageError, match=r"EventReceived: artifact\.path"):
        EventReceived.decode(
            b'{"id":"1","source":"s","type":"t","time":"2026-01-02T03:04:05Z","artifact":{"provider":"minio.default"}}'
        )


@given(st.binary(max_size=200))
def test_payloads_of_any_bytes_survive_the_wire(data: bytes) -> None:
    event = EventReceived.model_validate(
        {"id": "1", "source": "s", "type": "t", "time": "2026-01-02T03:04:05Z"}
    ).model_copy(update={"data": data})
    assert EventReceived.decode(event.encode()).data == data


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_ids_are_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (derive_id(*left) == derive_id(*right)) == (left == right)


@given(st.text(min_size=1) | st.just("name\n"))
def test_any_name_has_a_subject_token(name: str) -> None:
    token = subject_token(name)
    assert token
    assert not set(token) & set(" .*>\r\n")


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("data/in/a.png", True),
        ("data/in/deep/a.png", True),
        ("data/in/a.txt", False),
        ("data/in/", False),
        ("data/in", False),
        ("data/inner/a.png", False),
        ("other/in/a.png", False),
        ("data/in/folder.png/", False),
    ],
)
def test_a_trigger_matches_files_below_its_folder(path: str, matches: bool) -> None:
    trigger = StorageIO(path="data/in", suffix=(".png",))
    assert trigger.matches(ArtifactRef(path=path)) is matches
