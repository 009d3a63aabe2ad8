"""Probes of one instance, folded: OSCAR's figures (contract 8), but asked sooner while it starts. Pure.

An instance has three minutes to answer for the first time. Later, three failures in a row make it unready, and two
minutes of nothing but failures are its end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

STARTUP_SECONDS: Final = 180.0
"""18 failures, one every 10 s."""
PERIOD_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0
UNREADY_AFTER: Final = 3
LOST_SECONDS: Final = 120.0
"""12 failures, one every 10 s."""
_FIRST_PAUSE: Final = 0.1
_GROWTH: Final = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the probes so far say. Times are seconds of one monotonic clock."""

    started_at: float
    probes: int = 0
    has_answered: bool = False
    failures: int = 0
    """In a row."""
    failing_since: float | None = None

    def after(self, *, ok: bool, now: float) -> Health:
        """With one more probe."""
        if ok:
            return replace(self, probes=self.probes + 1, has_answered=True, failures=0, failing_since=None)
        since = now if self.failing_since is None else self.failing_since
        return replace(self, probes=self.probes + 1, failures=self.failures + 1, failing_since=since)

    @property
    def is_ready(self) -> bool:
        """Whether it gets requests."""
        return self.has_answered and self.failures < UNREADY_AFTER

    @property
    def pause(self) -> float:
        """Seconds until the next probe."""
        if self.has_answered:
            return PERIOD_SECONDS
        return min(PERIOD_SECONDS, _FIRST_PAUSE * _GROWTH ** min(self.probes, 20))

    def trouble(self, now: float) -> str:
        """Why it must be replaced; empty: it need not."""
        if not self.has_answered and now - self.started_at >= STARTUP_SECONDS:
            return f"did not answer the health probe within {STARTUP_SECONDS:.0f} s"
        if self.has_answered and self.failing_since is not None and now - self.failing_since >= LOST_SECONDS:
            return f"has not answered the health probe for {LOST_SECONDS:.0f} s"
        return ""


def pause_before_restart(failures: int) -> float:
    """Seconds: doubles from 1 to 60."""
    return float(min(60, 2 ** min(max(failures - 1, 0), 6)))
