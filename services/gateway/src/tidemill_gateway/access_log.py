"""The last calls of `/job` and `/run`, for OSCAR's `GET /system/logs`; in memory, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One answered call."""

    at: datetime
    status: int
    seconds: float
    client: str
    method: str
    path: str
    user: str | None
    """Who uploaded the object that the call told of; None: it told of none."""


class AccessLog:
    """A ring of the newest entries; adding one costs a tuple."""

    def __init__(self, size: int) -> None:
        self._entries: deque[tuple[float, int, float, str, str, str, str | None]] = deque(maxlen=size)

    def add(
        self, at: float, status: int, seconds: float, client: str, method: str, path: str, user: str | None
    ) -> None:
        """Remember one call; `at` in seconds of Unix time."""
        self._entries.append((at, status, seconds, client, method, path, user))

    def entries(self) -> Iterable[Access]:
        """The calls that are still remembered, oldest first."""
        for at, status, seconds, client, method, path, user in list(self._entries):
            yield Access(
                at=datetime.fromtimestamp(at, UTC),
                status=status,
                seconds=seconds,
                client=client,
                method=method,
                path=path,
                user=user,
            )
