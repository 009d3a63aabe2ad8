"""How long to wait before the next Attempt: doubles each time, up to a bound, with jitter."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tidemill_common.contracts.service import RetryPolicy

_MOST_DOUBLINGS: Final = 40
"""2**40 times any sensible backoff is beyond every bound; more would overflow `timedelta`."""


def retry_delay(policy: RetryPolicy, *, failures: int, jitter: float) -> timedelta:
    """The wait after the Attempt that follows `failures` failed ones has failed too.

    Args:
        jitter: In [0, 1); spreads the wait over the upper half of its length, so that what failed together
            does not come back together.
    """
    limit = policy.max_backoff.total_seconds()
    whole = min(policy.backoff.total_seconds() * 2.0 ** min(failures, _MOST_DOUBLINGS), limit)
    return timedelta(seconds=max(whole, 0.0) * (0.5 + jitter / 2))
