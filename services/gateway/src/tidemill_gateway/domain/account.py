"""The account of one Service: what was asked for must equal what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Counts since the projection began; `requested` comes from other records than the ends, so the check can fail."""

    service: str
    requested: int = 0
    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    pending: int = 0
    running: int = 0
    pruned: int = 0
    """Ended Invocations whose rows were removed; they stay in the other counts."""

    @property
    def balanced(self) -> bool:
        """requested = succeeded + failed + dead + cancelled + pending + running."""
        ended = self.succeeded + self.failed + self.dead + self.cancelled
        return self.requested == ended + self.pending + self.running
