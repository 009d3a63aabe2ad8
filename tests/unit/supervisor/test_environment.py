"""The environment of user code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.supervisor.builders import invocation, place, service
from tidemill_supervisor.domain.environment import EVENT_LIMIT_BYTES, user_environment
from tidemill_supervisor.domain.events import Recognised


def environment(raw: bytes = b"", **fields: object) -> dict[str, str]:
    return user_environment(
        invocation(),
        service(**fields),  # type: ignore[arg-type]  # checked by the model
        secrets={"S": "1", "OSCAR_SERVICE_TOKEN": "t"},
        event=Recognised(raw=raw, query={"q": "1"}),
        input_file=Path("/in/file"),
        place=place(Path("/work"), attempt=2),
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"text", True),
        (b"x" * EVENT_LIMIT_BYTES, True),
        (b"x" * (EVENT_LIMIT_BYTES + 1), False),
        (b"a\0b", False),
        (b"\xff", False),
    ],
)
def test_an_event_that_cannot_be_a_variable_is_only_in_its_file(raw: bytes, shown: bool) -> None:
    found = environment(raw)
    assert ("EVENT" in found) is shown
    assert found["EVENT_FILE_PATH"] == "/work/i1-2/event"


def test_the_contract_wins_over_the_users_variables_and_these_over_defaults() -> None:
    found = environment(variables={"PATH": "/mine", "TMP_OUTPUT_DIR": "/elsewhere", "A=B": "x", "N": "a\0b"})
    assert (found["PATH"], found["TMP_OUTPUT_DIR"]) == ("/mine", "/work/i1-2/output")
    assert not {"A=B", "N"} & set(found)


def test_variables_of_the_contract_are_there() -> None:
    found = environment(expose={"api_port": [80]})
    assert found["OSCAR_SERVICE_BASE_PATH"] == "/system/services/blur/exposed"
    assert (found["OSCAR_SERVICE_TOKEN"], found["S"], found["CONT_VAR_q"]) == ("t", "1", "1")
    assert (found["TIDEMILL_ATTEMPT"], found["TIDEMILL_WORKER"], found["INPUT_FILE_PATH"]) == ("2", "w1", "/in/file")
