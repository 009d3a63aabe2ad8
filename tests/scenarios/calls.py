"""Services that are called."""

from __future__ import annotations

from tests.scenarios.target import Target, fresh

ECHO = 'echo "you said $(cat "$INPUT_FILE_PATH")"\n'


def a_call_is_answered(target: Target, prefix: str) -> None:
    name = fresh(prefix, "echo")
    token = target.apply(name, ECHO)

    answer = target.call(name, token, b"hello")

    assert (answer.status_code, answer.text) == (200, "you said hello\n")


def a_failing_call_says_why(target: Target, prefix: str) -> None:
    name = fresh(prefix, "refuse")
    token = target.apply(name, "echo 'not today' >&2; exit 4\n")

    answer = target.call(name, token, b"x")

    assert answer.status_code == 500
    assert "not today" in answer.text


def a_job_is_found_by_its_id(target: Target, prefix: str) -> None:
    name = fresh(prefix, "job")
    token = target.apply(name, ECHO)
    identity = target.job(name, token, b"later")

    row = target.ended(identity)

    assert (row["phase"], row["service"]) == ("Succeeded", name), row
    assert target.api("GET", f"/v1/invocations/{identity}/result").text == "you said later\n"
