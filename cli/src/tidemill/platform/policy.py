"""When a process that died is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Forever, at once the first time, then ever slower; a process that lived long enough starts afresh."""

    first: timedelta = timedelta(seconds=0.2)
    limit: timedelta = timedelta(seconds=10)
    healthy_after: timedelta = timedelta(seconds=20)

    def failures(self, before: int, lived: timedelta) -> int:
        """How many short lives in a row, given those before and how long the last one was."""
        return 1 if lived >= self.healthy_after else before + 1

    def delay(self, failures: int) -> timedelta:
        """How long to wait before the start that follows `failures` short lives in a row."""
        if failures <= 1:
            return self.first
        doublings = 1 << min(failures - 1, 16)
        return min(self.limit, self.first * doublings)
