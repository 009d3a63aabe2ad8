"""What the scheduler makes of what it hears of Workers, and of what it does not hear."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.scheduler.test_kubernetes_template import SPEC
from tidemill_scheduler.activity import LOST_AFTER, Activity
from tidemill_scheduler.ports import RunningWorker

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("is_cut_off", "heard", "listening_since", "is_lost"),
    [
        (True, LATER - LOST_AFTER, START, True),
        (True, LATER - LOST_AFTER / 2, START, False),
        (True, None, START, True),
        (True, None, LATER - LOST_AFTER / 2, False),
        (False, LATER - LOST_AFTER, START, False),
    ],
    ids=["silent", "still heard", "never heard", "we were deaf ourselves", "still seen"],
)
def test_a_worker_is_lost_when_nobody_sees_it_and_nobody_hears_it(
    is_cut_off: bool, heard: datetime | None, listening_since: datetime, is_lost: bool
) -> None:
    activity = Activity()
    if heard is not None:
        activity.report(SPEC.id, 1, heard)
    worker = RunningWorker(spec=SPEC, started_at=START, is_cut_off=is_cut_off)
    assert bool(activity.lost([worker], listening_since=listening_since, now=LATER)) is is_lost
