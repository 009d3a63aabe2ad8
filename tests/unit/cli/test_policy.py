"""A process that dies comes back: at once the first time, never slower than the limit, afresh after a good life."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tidemill.platform.policy import RestartPolicy

POLICY = RestartPolicy()
SHORT, LONG = timedelta(seconds=1), timedelta(minutes=1)


def test_first_death_is_answered_at_once() -> None:
    assert POLICY.delay(POLICY.failures(0, SHORT)) == POLICY.first


def test_short_lives_in_a_row_slow_down() -> None:
    delays = [POLICY.delay(failures) for failures in range(1, 6)]
    assert delays == sorted(delays)
    assert delays[0] < delays[2] < delays[4]


def test_a_long_life_starts_afresh() -> None:
    assert POLICY.failures(12, LONG) == 1


@given(st.integers(min_value=0, max_value=10**9))
def test_it_never_waits_longer_than_the_limit_and_never_gives_up(failures: int) -> None:
    assert POLICY.first <= POLICY.delay(failures) <= POLICY.limit
