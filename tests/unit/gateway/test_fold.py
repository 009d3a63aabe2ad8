"""One log gives one row, however it is cut, repeated or shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_common.contracts.invocation import TERMINAL, Change, InvocationChanged, Phase, Reason
from tidemill_gateway.domain.fold import COUNTERS, InvocationRow, counted, fold, fold_all

START = datetime(2026, 1, 2, tzinfo=UTC)


def record(change: Change, attempt: int = 0, seconds: int = 0, **more: object) -> InvocationChanged:
    """One record of the same Invocation."""
    return InvocationChanged.model_validate(
        {
            "invocation_id": "i",
            "service": "thumb",
            "change": change,
            "attempt": attempt,
            "at": START + timedelta(seconds=seconds),
            "worker": f"w{attempt}",
            **more,
        }
    )


def folded(log: Sequence[tuple[int, InvocationChanged]]) -> InvocationRow:
    """The row after a log of (position, record)."""
    row: InvocationRow | None = None
    for position, body in log:
        row = fold(row, body, position)
    assert row is not None
    return row


RECORDS = st.builds(
    record,
    st.sampled_from(list(Change)),
    st.integers(0, 3),
    st.integers(0, 100),
)
OPEN = RECORDS.filter(lambda body: body.change not in TERMINAL)
LOGS = st.lists(RECORDS, min_size=1, max_size=12).map(lambda log: list(enumerate(log, 1)))


def unique(records: list[InvocationChanged]) -> list[InvocationChanged]:
    """What a bus keeps: one record of each message id."""
    return list({body.message_id(): body for body in records}.values())


@settings(max_examples=40)
@given(LOGS, st.data())
def test_records_told_again_change_nothing(log: list[tuple[int, InvocationChanged]], data: st.DataObject) -> None:
    repeated: list[tuple[int, InvocationChanged]] = []
    for number in range(len(log)):
        repeated.extend(log[data.draw(st.integers(0, number)) : number + 1])
    assert folded(repeated) == folded(log)


@settings(max_examples=40)
@given(LOGS, st.data())
def test_records_folded_together_are_as_one_by_one(
    log: list[tuple[int, InvocationChanged]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(log) - 1))
    before = folded(log[:cut]) if cut else None
    together = fold_all(before, [(body, position) for position, body in log])
    assert together == folded(log)
    steps = [None, *(folded(log[: number + 1]) for number in range(len(log)))]
    one_by_one = [name for old, new in pairwise(steps[cut:]) if new for name in counted(old, new)]
    assert sorted(counted(before, together)) == sorted(one_by_one)


@settings(max_examples=40)
@given(LOGS)
def test_the_first_terminal_record_wins(log: list[tuple[int, InvocationChanged]]) -> None:
    row = folded(log)
    ends = [body for _, body in log if body.change in TERMINAL]
    assert row.is_terminal == bool(ends)
    if ends:
        assert (row.finished_at, row.dead) == (ends[0].at, ends[0].change is Change.DEAD)
        assert row.worker == ends[0].worker


@settings(max_examples=40)
@given(st.lists(OPEN, max_size=8).map(unique), RECORDS, st.randoms())
def test_the_order_of_other_records_makes_no_difference(
    records: list[InvocationChanged], end: InvocationChanged, random: Random
) -> None:
    every = unique([*records, end])
    shuffled = list(every)
    random.shuffle(shuffled)
    left, right = (folded(list(enumerate(order, 1))) for order in (every, shuffled))
    assert left == right


@settings(max_examples=40)
@given(LOGS, st.integers(0, 12))
def test_counters_grow_once_an_invocation(log: list[tuple[int, InvocationChanged]], cut: int) -> None:
    grown = dict.fromkeys(COUNTERS, 0)
    row: InvocationRow | None = None
    for position, body in [*log[:cut], *log]:
        after = fold(row, body, position)
        for name in counted(row, after):
            grown[name] += 1
        row = after
    assert row is not None
    assert grown["requested"] == int(row.requested)
    assert grown["succeeded"] + grown["failed"] + grown["dead"] + grown["cancelled"] == int(row.is_terminal)


def test_an_end_that_overtakes_its_request_is_no_problem() -> None:
    row = folded(
        [
            (1, record(Change.SUCCEEDED, 1, 5, reason=Reason.COMPLETED)),
            (2, record(Change.REQUESTED, 0, 1, trigger="direct", event_id="e", worker=None)),
            (3, record(Change.STARTED, 1, 2)),
        ]
    )
    assert (row.phase, row.requested, row.trigger, row.event_id) == (Phase.SUCCEEDED, True, "direct", "e")
    assert row.requested_at == START + timedelta(seconds=1)
    assert row.started_at == START + timedelta(seconds=2)


def test_a_failed_attempt_with_attempts_left_is_pending_again() -> None:
    log = [(1, record(Change.REQUESTED)), (2, record(Change.STARTED, 1))]
    assert folded(log).phase is Phase.RUNNING
    retried = folded([*log, (3, record(Change.RETRIED, 1, 9, reason=Reason.TIMEOUT, exit_code=None))])
    assert (retried.phase, retried.reason, retried.attempts) == (Phase.PENDING, Reason.TIMEOUT, 1)


def test_an_attempt_that_comes_back_from_the_dead_does_not_reopen() -> None:
    log = [(1, record(Change.DEAD, 3, 5)), (2, record(Change.SUCCEEDED, 2, 9)), (3, record(Change.STARTED, 4, 10))]
    row = folded(log)
    assert (row.phase, row.dead, row.attempts) == (Phase.FAILED, True, 4)


@pytest.mark.parametrize("reason", [Reason.DEADLINE_PASSED, Reason.SERVICE_REMOVED])
@pytest.mark.parametrize("seen", [(Change.FAILED, Change.CANCELLED), (Change.CANCELLED, Change.FAILED)])
def test_what_is_called_off_has_one_end_whoever_sees_it_first(seen: tuple[Change, Change], reason: Reason) -> None:
    log = [(number, record(change, 1, number, reason=reason)) for number, change in enumerate(seen, 1)]
    row = folded(log)
    assert (row.phase, row.reason, row.dead) == (Phase.CANCELLED, reason, False)
    assert counted(None, row) == ("cancelled",)
