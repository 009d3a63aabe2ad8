"""Invocations of a Worker that ended without answering, and Services whose Workers cannot run yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.scheduler.test_kubernetes_template import SPEC
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import Change, Reason
from tidemill_scheduler.activity import Activity, Held, held_in
from tidemill_scheduler.losses import is_blameless, lost_records
from tidemill_scheduler.ports import Cause, RunningWorker, WorkerEnded
from tidemill_scheduler.troubles import stuck, troubles

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELD = (Held(InvocationId("i"), 2, 3),)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Cause("OOMKilled", "x"), Reason.OUT_OF_MEMORY),
        (Cause("Evicted", "The node was low on resource"), Reason.EVICTED),
        (Cause("EvictionByEvictionAPI", "Eviction API: evicting"), Reason.EVICTED),
        (Cause("NodeLost"), Reason.WORKER_LOST),
        (None, Reason.WORKER_LOST),
    ],
)
def test_a_lost_attempt_is_told_with_its_reason_and_the_platforms_words(cause: Cause | None, reason: Reason) -> None:
    ended = WorkerEnded(spec=SPEC, was_draining=False, signal=9, cause=cause)
    (record,) = lost_records(ended, HELD, NOW)
    assert (record.change, record.reason, record.attempt, record.revision) == (Change.RETRIED, reason, 2, 3)
    assert record.message_id() == "i.retried.2"
    assert record.message is not None
    assert str(cause or "signal 9") in record.message


def test_a_worker_that_ended_in_order_has_answered_itself() -> None:
    ended = WorkerEnded(spec=SPEC, was_draining=False, exit_code=0, cause=Cause("OOMKilled"))
    assert lost_records(ended, HELD, NOW) == []


@pytest.mark.parametrize(("reason", "blameless"), [("Evicted", True), ("OOMKilled", True), ("StartError", False)])
def test_a_service_is_not_to_blame_for_what_happens_to_workers_that_ran(reason: str, blameless: bool) -> None:
    assert is_blameless(Cause(reason)) is blameless


def test_what_a_worker_says_that_it_holds_is_kept_until_it_says_otherwise() -> None:
    activity = Activity()
    held = held_in({"busy": 1, "invocations": [{"id": "i", "attempt": 2, "revision": 3}]})
    activity.report(SPEC.id, 1, NOW, held)
    assert activity.held(SPEC.id) == HELD
    activity.report(SPEC.id, 0, NOW)
    assert activity.held(SPEC.id) == ()
    assert held_in({"busy": 1}) == ()


def test_a_service_is_held_back_while_as_many_workers_as_may_wait_for_room() -> None:
    waiting = RunningWorker(spec=SPEC, started_at=NOW, is_pending=True, trouble=Cause("Unschedulable", "no cpu"))
    running = replace(waiting, is_pending=False, trouble=None)
    assert stuck([running], most=1, now=NOW) == {}
    assert stuck([waiting], most=2, now=NOW) == {}
    assert stuck([waiting], most=1, now=NOW)[SPEC.service].next_try == NOW + timedelta(seconds=1)
    assert troubles([waiting, running]) == {SPEC.service: "Unschedulable: no cpu"}
