"""Services whose Workers fail: how long to wait before the next try, and when to tell people.

A failing Service gets one Worker at a time, and none before `next_try`; it never holds room that others could use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FIRST_DELAY: Final = timedelta(seconds=1)
LAST_DELAY: Final = timedelta(minutes=5)
DEGRADED_AFTER: Final = 2
"""Failures in a row; one alone may be bad luck (a kill by the kernel, a lost machine)."""
STABLE_AFTER: Final = timedelta(seconds=10)
"""A Worker that has run this long shows that the Service works again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Failures of one Service in a row."""

    count: int
    reason: str
    """Of the newest, for people."""
    at: datetime
    next_try: datetime

    @property
    def is_degraded(self) -> bool:
        """Whether people should be told."""
        return self.count >= DEGRADED_AFTER


def failed(previous: Failure | None, *, reason: str, now: datetime) -> Failure:
    """One failure more. Several Workers that fail within one delay count once: they had the same cause."""
    if previous is not None and now < previous.next_try and previous.count > 0:
        return Failure(count=previous.count, reason=reason, at=now, next_try=previous.next_try)
    count = 1 if previous is None else previous.count + 1
    delay = min(LAST_DELAY, FIRST_DELAY * 2 ** min(count - 1, 20))
    return Failure(count=count, reason=reason, at=now, next_try=now + delay)


def waiting(now: datetime) -> Failure:
    """As if it had failed once: its Workers wait for room, and more of them would wait as well."""
    return Failure(count=1, reason="", at=now, next_try=now + FIRST_DELAY)


def failure_reason(exit_code: int | None, *, signal: int | None, was_ready: bool, last_line: str) -> str | None:
    """Why a Worker that was not asked to end did, for people; None: it ended as it should.

    Exit codes are those of internals.md: 0 orderly, 75 a dependency is missing, 70 a bug.
    """
    if signal is not None:
        said = f"Worker was killed by signal {signal}"
    elif exit_code is None or (exit_code == 0 and was_ready):
        return None
    elif exit_code == 0:
        said = "Worker ended before it was ready"
    elif exit_code == 75:
        said = "Worker misses the bus or the store (exit code 75)"
    else:
        said = f"Worker failed with exit code {exit_code}"
    return f"{said}: {last_line}" if last_line else said
