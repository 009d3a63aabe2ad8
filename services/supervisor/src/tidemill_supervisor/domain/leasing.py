"""How many Leases a Worker may hold. Pure."""

from __future__ import annotations

from typing import Final

_AHEAD_SECONDS: Final = 0.05
"""Work that may wait in a Worker for its resident scripts: long against the way to the bus and back, short for others
that could do it."""
_MOST_AHEAD: Final = 64


def leases_ahead(mean_seconds: float | None, slots: int) -> int:
    """How many Leases beside those in its slots a Worker may hold, given how long one Invocation takes.

    Only short ones are leased ahead, so no other Worker is kept from what this one could not begin at once.
    """
    if mean_seconds is None:
        return 0
    return min(int(_AHEAD_SECONDS / max(mean_seconds, 1e-6)), _MOST_AHEAD) * slots


def within_reuse(allowed: int, *, held: int, left: int | None) -> int:
    """No more than the Worker may still take before it exits; `left` None: as many as come."""
    return allowed if left is None else min(allowed, held + left)
