"""The language of supervisor and runner: lines one way, answers the other, and nothing that user code writes harms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common import runner
from tidemill_common.runner import Answer, Cleared, Ended, Failed, Parser, Ready, Started, Wiped

_ANSWERS = [
    (b"ready 1 0\n", Ready(1, 0)),
    (b"started 3 17\n", Started(3, 17)),
    (b"failed 3 start /no/such: no such program\n", Failed(3, "start /no/such: no such program")),
    (b"exit 3 137 2\n", Ended(3, 137, 2)),
    (b"cleared 3 2\n", Cleared(3, 2)),
    (b"wiped 4\n", Wiped(4)),
]


@pytest.mark.parametrize(("line", "answer"), _ANSWERS)
def test_each_answer_is_understood(line: bytes, answer: Answer) -> None:
    assert list(Parser().feed(line)) == [answer]


@given(st.lists(st.integers(1, 20), min_size=1))
def test_answers_may_come_in_pieces(sizes: list[int]) -> None:
    rest, parser = b"".join(line for line, _ in _ANSWERS), Parser()
    found: list[Answer] = []
    for size in sizes:
        found += parser.feed(rest[:size])
        rest = rest[size:]
    assert [*found, *parser.feed(rest)] == [answer for _, answer in _ANSWERS]


@given(st.binary())
def test_noise_is_passed_over(noise: bytes) -> None:
    parser = Parser()
    list(parser.feed(noise))
    assert list(parser.feed(b"\nwiped 7\n"))[-1] == Wiped(7)


@pytest.mark.parametrize(
    "line", [b"exit 1\n", b"exit -1 0 0\n", b"exit x 0 0\n", b"wiped \xb2\n", b"wiped " + b"9" * 99]
)
def test_an_answer_that_makes_no_sense_is_none(line: bytes) -> None:
    assert list(Parser().feed(line)) == []


def test_what_has_no_end_is_not_kept() -> None:
    parser = Parser()
    for _ in range(100):
        list(parser.feed(b"x" * 4096))
    assert len(parser._rest) <= 4096


def test_commands_are_lines() -> None:
    assert runner.run(1) == b"run 1\n"
    assert runner.signal(1, "TERM", 17, "i-1") == b"signal 1 TERM 17 i-1\n"
    assert runner.check(1) == b"check 1\n"
    assert runner.clear(1, None, "i-1") == b"clear 1 - i-1\n"
    assert runner.wipe(2, "i-1") == b"wipe 2 i-1\n"


@pytest.mark.parametrize("name", ["", "..", "../x", "a b", "a\nb", ".lock", "a/b"])
def test_only_plain_names_are_told(name: str) -> None:
    with pytest.raises(ValueError, match="not a plain name"):
        runner.wipe(1, name)


def test_only_signals_that_every_shell_knows_are_told() -> None:
    with pytest.raises(ValueError, match="cannot send"):
        runner.signal(1, "WINCH", 17, "i-1")


def test_the_container_runs_a_shell_and_nothing_else() -> None:
    command = runner.runner_command("/tidemill/w1")
    assert command == ["/bin/sh", "-c", runner.LOOP, "tidemill-runner", "/tidemill/w1"]
    assert len(runner.LOOP) < 32 * 1024, "it is in every Job"
