"""How an Attempt ended, and what becomes of its Invocation."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.contracts.invocation import Change, Reason
from tidemill_common.contracts.service import RetryPolicy
from tidemill_supervisor.domain.backoff import retry_delay
from tidemill_supervisor.domain.outcome import (
    Decision,
    Ended,
    Finish,
    Outcome,
    SetAside,
    TryAgain,
    classify,
    decide,
)

POLICY = RetryPolicy(attempts=3, backoff=timedelta(seconds=2), final_exit_codes=(4,))


@pytest.mark.parametrize(
    ("ended", "reason", "exit_code", "number"),
    [
        (Ended(status=0), Reason.COMPLETED, 0, None),
        (Ended(status=3), Reason.SCRIPT_FAILED, 3, None),
        (Ended(status=3, disk_full=True), Reason.DISK_LIMIT, 3, None),
        (Ended(status=-signal.SIGSEGV), Reason.SCRIPT_KILLED, 139, 11),
        (Ended(status=-signal.SIGKILL), Reason.SCRIPT_KILLED, 137, 9),
        (Ended(status=137), Reason.SCRIPT_KILLED, 137, 9),
        (Ended(status=137, out_of_memory=True), Reason.OUT_OF_MEMORY, 137, 9),
        (Ended(status=-signal.SIGKILL, out_of_memory=True), Reason.OUT_OF_MEMORY, 137, 9),
        (Ended(status=1, out_of_memory=True), Reason.SCRIPT_FAILED, 1, None),
        (Ended(status=-signal.SIGXFSZ), Reason.DISK_LIMIT, 153, 25),
        (Ended(status=-signal.SIGTERM, stopped_for=Reason.TIMEOUT), Reason.TIMEOUT, 143, 15),
        (Ended(status=0, stopped_for=Reason.TIMEOUT), Reason.TIMEOUT, 0, None),
        (Ended(status=-signal.SIGKILL, stopped_for=Reason.DISK_LIMIT), Reason.DISK_LIMIT, 137, 9),
    ],
)
def test_every_end_of_a_script_has_its_reason(ended: Ended, reason: Reason, exit_code: int, number: int | None) -> None:
    outcome = classify(ended, timeout=timedelta(seconds=1), disk_limit_bytes=10)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (reason, exit_code, number)
    assert (outcome.message is None) == (reason is Reason.COMPLETED)


RETRY = TryAgain(timedelta(seconds=1))


@pytest.mark.parametrize(
    ("outcome", "failures", "awaited", "decision"),
    [
        (Outcome(reason=Reason.COMPLETED), 0, True, Finish(Change.SUCCEEDED)),
        (Outcome(reason=Reason.COMPLETED), 9, False, Finish(Change.SUCCEEDED)),
        (Outcome(reason=Reason.CANCELLED), 0, False, Finish(Change.CANCELLED)),
        (Outcome(reason=Reason.DEADLINE_PASSED), 0, False, Finish(Change.FAILED)),
        (Outcome(reason=Reason.SERVICE_REMOVED), 0, False, Finish(Change.FAILED)),
        (Outcome(reason=Reason.SCRIPT_FAILED, exit_code=1), 0, False, RETRY),
        (Outcome(reason=Reason.SCRIPT_FAILED, exit_code=1), 2, False, SetAside()),
        (Outcome(reason=Reason.SCRIPT_FAILED, exit_code=1), 0, True, Finish(Change.FAILED)),
        (Outcome(reason=Reason.SCRIPT_FAILED, exit_code=4), 0, False, Finish(Change.FAILED)),
        (Outcome(reason=Reason.SCRIPT_FAILED, exit_code=4), 2, False, Finish(Change.FAILED)),
        (Outcome(reason=Reason.TIMEOUT), 0, False, RETRY),
        (Outcome(reason=Reason.STAGE_IN_FAILED), 0, False, RETRY),
        (Outcome(reason=Reason.INPUT_MISSING, permanent=True), 0, False, SetAside()),
        (Outcome(reason=Reason.INPUT_MISSING, permanent=True), 0, True, Finish(Change.FAILED)),
        (Outcome(reason=Reason.WORKER_LOST, permanent=True), 0, False, SetAside()),
    ],
)
def test_what_becomes_of_an_invocation(outcome: Outcome, failures: int, awaited: bool, decision: Decision) -> None:
    assert decide(outcome, policy=POLICY, failures=failures, awaited=awaited, jitter=0) == decision


@given(st.sampled_from(Reason), st.integers(0, 10), st.booleans(), st.booleans(), st.integers(1, 5))
def test_attempts_never_exceed_the_policy(
    reason: Reason, failures: int, awaited: bool, permanent: bool, attempts: int
) -> None:
    policy = RetryPolicy(attempts=attempts)
    outcome = Outcome(reason=reason, permanent=permanent)
    decision = decide(outcome, policy=policy, failures=failures, awaited=awaited, jitter=0.5)
    assert not (isinstance(decision, TryAgain) and (failures + 1 >= attempts or awaited or permanent))


@pytest.mark.parametrize(("failures", "seconds"), [(0, 2), (1, 4), (2, 8), (7, 256), (8, 300), (10_000, 300)])
def test_the_wait_doubles_up_to_its_bound(failures: int, seconds: float) -> None:
    assert retry_delay(RetryPolicy(), failures=failures, jitter=0.0) == timedelta(seconds=seconds / 2)


@given(st.integers(0, 5000), st.floats(0, 1, exclude_max=True), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_wait_stays_within_its_bounds(failures: int, jitter: float, first: int, most: int) -> None:
    policy = RetryPolicy(backoff=timedelta(seconds=first), max_backoff=timedelta(seconds=most))
    delay = retry_delay(policy, failures=failures, jitter=jitter)
    assert timedelta() <= delay <= timedelta(seconds=most)
    assert delay >= min(timedelta(seconds=first), timedelta(seconds=most)) / 2
