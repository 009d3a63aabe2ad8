"""From how an Attempt ended to what becomes of the Invocation. Pure: one function each, used in one place each."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import Change, Reason
from tidemill_common.contracts.service import RetryPolicy
from tidemill_supervisor.domain.backoff import retry_delay

_KILLED_EXIT_CODE: Final = 128 + signal.SIGKILL
"""What a shell exits with when its last command was killed (POSIX: 128 + the signal's number)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one Attempt ended."""

    reason: Reason
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    permanent: bool = False
    """True: another Attempt cannot succeed."""
    outputs: tuple[ArtifactRef, ...] = ()
    result: bytes | None = None
    result_ref: ArtifactRef | None = None
    log_tail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What is known of a script that ran."""

    status: int
    """Exit code; negative: the signal that ended it."""
    stopped_for: Reason | None = None
    """Why we stopped it (`timeout`, `disk-limit`); None: it ended by itself."""
    out_of_memory: bool = False
    """The kernel killed something in our memory group meanwhile."""
    disk_full: bool = False
    """Nothing is left on the workspace's file system."""


@dataclass(frozen=True, slots=True)
class Finish:
    """It ends here, for ever, with this change."""

    change: Change


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Another Attempt, after `delay`."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class SetAside:
    """It becomes a dead letter."""


Decision = Finish | TryAgain | SetAside


def classify(ended: Ended, *, timeout: timedelta | None, disk_limit_bytes: int | None) -> Outcome:
    """The outcome of a script that ran; says for people what happened."""
    code, number = _status(ended.status)
    reason = _reason(ended, number)
    match reason:
        case Reason.COMPLETED:
            message = None
        case Reason.TIMEOUT:
            message = f"ran longer than {timeout}"
        case Reason.DEADLINE_PASSED:
            message = "its deadline passed while it ran"
        case Reason.DISK_LIMIT if ended.disk_full:
            message = "no space left on the disk"
        case Reason.DISK_LIMIT:
            message = f"wrote more than {disk_limit_bytes} bytes"
        case Reason.OUT_OF_MEMORY:
            message = "killed by the kernel: out of memory"
        case Reason.SCRIPT_KILLED if number is not None:
            message = f"ended by {_signal_name(number)}"
        case _:
            message = f"exit code {code}"
    return Outcome(reason=reason, message=message, exit_code=code, signal=number)


def decide(outcome: Outcome, *, policy: RetryPolicy, failures: int, awaited: bool, jitter: float) -> Decision:
    """What becomes of the Invocation.

    Args:
        failures: Attempts before this one that failed.
        awaited: Somebody waits for the answer: a retry would come too late.
        jitter: In [0, 1).
    """
    match outcome.reason:
        case Reason.COMPLETED:
            return Finish(Change.SUCCEEDED)
        case Reason.CANCELLED:
            return Finish(Change.CANCELLED)
        case Reason.DEADLINE_PASSED | Reason.SERVICE_REMOVED:
            return Finish(Change.FAILED)
    if awaited or outcome.exit_code in policy.final_exit_codes:
        return Finish(Change.FAILED)
    if outcome.permanent or failures + 1 >= policy.attempts:
        return SetAside()
    return TryAgain(retry_delay(policy, failures=failures, jitter=jitter))


def _reason(ended: Ended, number: int | None) -> Reason:
    if ended.stopped_for is not None:
        return ended.stopped_for
    if ended.status == 0:
        return Reason.COMPLETED
    if number == signal.SIGKILL and ended.out_of_memory:
        return Reason.OUT_OF_MEMORY
    if number == signal.SIGXFSZ or ended.disk_full:
        return Reason.DISK_LIMIT
    return Reason.SCRIPT_FAILED if number is None else Reason.SCRIPT_KILLED


def _status(status: int) -> tuple[int, int | None]:
    """(exit code as a shell shows it, signal or None)."""
    if status < 0:
        return 128 - status, -status
    if status == _KILLED_EXIT_CODE:
        return status, int(signal.SIGKILL)
    return status, None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
