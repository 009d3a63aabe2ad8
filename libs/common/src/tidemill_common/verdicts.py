"""From the outcome of handling a Message to what becomes of the Message. One pure function, used in one place each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from tidemill_common.errors import PermanentError, TransientError


@dataclass(frozen=True, slots=True)
class Ack:
    """It is done; never again."""


@dataclass(frozen=True, slots=True)
class Release:
    """Not the Message's fault: hand it to somebody else at once."""


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Try again after `delay`."""

    delay: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """Keep it as a dead letter with its reason."""

    reason: str


Verdict = Ack | Release | Redeliver | SetAside


def judge(error: BaseException | None, *, delivery: int, limit: int, backoff: timedelta) -> Verdict:
    """What becomes of a Message whose handling ended with `error` (None: well) at its `delivery`-th hand-over."""
    match error:
        case None:
            return Ack()
        case asyncio.CancelledError():
            return Release()  # shutdown, not the Message's fault
        case PermanentError():
            return SetAside(f"permanent: {error}")
        case Exception() if delivery >= limit:
            return SetAside(f"gave up after {delivery} deliveries: {error}")
        case TransientError(retry_after=timedelta() as hint):
            return Redeliver(hint, str(error))
        case _:  # no hint, or a bug of ours: both deserve another try
            return Redeliver(backoff, str(error) or type(error).__name__)
