"""A cursor never passes what is not acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidemill_storage_bridge.domain.cursor import Progress


@given(st.permutations(range(1, 12)), st.integers(0, 11))
def test_the_cursor_is_the_end_of_what_is_done_without_a_gap(order: list[int], finished: int) -> None:
    progress = Progress(0)
    tickets = {cursor: progress.begin(cursor) for cursor in range(1, 12)}
    for cursor in order[:finished]:
        progress.finish(tickets[cursor])
    done = set(order[:finished])
    assert progress.cursor == next(n for n in range(12) if n + 1 not in done)
    assert progress.waiting == 11 - progress.cursor


def test_the_cursor_never_goes_back() -> None:
    progress = Progress(100)
    progress.finish(progress.begin(7))
    assert progress.cursor == 100
