"""Delays grow, a shared cause counts once, and people are told in time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.scheduler.planned import NOW
from tidemill_scheduler.domain.failures import LAST_DELAY, Failure, failed, failure_reason


def in_a_row(count: int) -> Failure:
    failure = failed(None, reason="exit 1", now=NOW)
    for _ in range(count - 1):
        failure = failed(failure, reason="exit 1", now=failure.next_try)
    return failure


@pytest.mark.parametrize(("count", "seconds"), [(1, 1), (2, 2), (3, 4), (5, 16), (30, LAST_DELAY.total_seconds())])
def test_the_delay_doubles_up_to_a_bound(count: int, seconds: float) -> None:
    failure = in_a_row(count)

    assert failure.next_try - failure.at == timedelta(seconds=seconds)


def test_workers_that_fail_together_count_once() -> None:
    first = failed(None, reason="exit 1", now=NOW)
    second = failed(first, reason="exit 1", now=NOW + timedelta(milliseconds=10))

    assert (second.count, second.next_try) == (1, first.next_try)


def test_one_failure_is_bad_luck_and_two_are_told() -> None:
    assert [in_a_row(count).is_degraded for count in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    ("exit_code", "signal", "was_ready", "expected"),
    [
        (0, None, True, None),
        (None, None, True, None),
        (0, None, False, "Worker ended before it was ready: last words"),
        (75, None, True, "Worker misses the bus or the store (exit code 75): last words"),
        (70, None, True, "Worker failed with exit code 70: last words"),
        (None, 9, True, "Worker was killed by signal 9: last words"),
    ],
)
def test_an_end_says_whether_it_was_a_failure(
    exit_code: int | None, signal: int | None, was_ready: bool, expected: str | None
) -> None:
    assert failure_reason(exit_code, signal=signal, was_ready=was_ready, last_line="last words") == expected
