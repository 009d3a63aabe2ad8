"""Headers of Invocations on the work queue: ours count Attempts, the server's plan delayed ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tidemill_common.bus.nats.frames import Message

ATTEMPT: Final = "Tidemill-Attempt"
FAILURES: Final = "Tidemill-Failures"
_OURS: Final = b"Tidemill-"
MESSAGE_ID: Final = "Nats-Message-Id"


def schedule_headers(when: datetime, target: str) -> dict[str, str]:
    """Ask the server to publish the message again on `target`, not before `when`."""
    at = when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": target}


def attempt_headers(invocation: str, *, attempt: int, failures: int) -> dict[str, str]:
    """Of the message that carries the next Attempt; storing it twice stores one."""
    return {MESSAGE_ID: f"{invocation}.{attempt}", ATTEMPT: str(attempt), FAILURES: str(failures)}


def counted(message: Message) -> tuple[int, int]:
    """(Attempt of its first delivery, failures before it), as the headers say."""
    if _OURS not in message.block:
        return 1, 0
    headers = message.headers
    return _number(headers.get(ATTEMPT), 1), _number(headers.get(FAILURES), 0)


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default
