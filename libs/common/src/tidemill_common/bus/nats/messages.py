"""Headers of Invocations on the work queue: ours count Attempts, the server's plan delayed ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tidemill_common.bus.nats.frames import Message
from tidemill_common.contracts.retry import RetryAsked

ATTEMPT: Final = "Tidemill-Attempt"
FAILURES: Final = "Tidemill-Failures"
_OURS: Final = b"Tidemill-"
MESSAGE_ID: Final = "Nats-Msg-Id"
_FARTHEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""A server counts nanoseconds in 64 bits, which end in 2262."""


def schedule_headers(when: datetime, target: str) -> dict[str, str]:
    """Ask the server to publish the message again on `target`, not before `when`."""
    at = min(when, _FARTHEST).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": target}


def attempt_headers(retry: RetryAsked) -> dict[str, str]:
    """Of the message that carries the next Attempt; storing it twice stores one."""
    return {MESSAGE_ID: retry.message_id(), ATTEMPT: str(retry.attempt), FAILURES: str(retry.failures)}


def counted(message: Message) -> tuple[int, int]:
    """(Attempt of its first delivery, failures before it), as the headers say."""
    if _OURS not in message.block:
        return 1, 0
    headers = message.headers
    return _number(headers.get(ATTEMPT), 1), _number(headers.get(FAILURES), 0)


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default
