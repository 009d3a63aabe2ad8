"""Durations as users write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("given_value", "seconds"),
    [
        (30, 30),
        (0.5, 0.5),
        (0.1 + 0.2, 0.3),
        ("30", 30),
        ("30s", 30),
        (" 5m ", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("PT20S", 20),
        ("P1DT1H", 90_000),
        ("pt0.25s", 0.25),
        ("P1W", 604_800),
        (0, 0),
    ],
)
def test_every_way_to_write_one_is_understood(given_value: float | str, seconds: float) -> None:
    assert parse_duration(given_value) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "given_value", ["", "P", "PT", "s", "-5s", -1, "1y", "5 m", "soon", "9" * 15, float("nan"), "١s"]
)
def test_what_is_none_is_refused(given_value: float | str) -> None:
    with pytest.raises(InvalidInputError, match="not a duration"):
        parse_duration(given_value)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_a_written_duration_reads_the_same(duration: timedelta) -> None:
    assert parse_duration(duration_text(duration)) == duration
