"""One Stream in memory: ordered records under the limits of its StreamSpec, with a duplicate window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from tidemill_common.bus.memory.clock import Clock
from tidemill_common.bus.memory.signal import Signal
from tidemill_common.bus.streams import StreamSpec
from tidemill_common.errors import ThrottledError

_FORGOTTEN_AT_ONCE: Final = 64
FULL_RETRY_AFTER: Final = timedelta(seconds=1)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject matches a pattern with `*` (one token) and `>` (the rest)."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(want in {"*", token} for want, token in zip(wanted, given, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One record as it is kept."""

    position: int
    subject: str
    body: bytes
    time: datetime


class DuplicateWindow:
    """Message ids that were seen not longer ago than the window."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, datetime] = {}

    def is_repeat(self, message_id: str | None, window: timedelta) -> bool:
        """Whether the id is known."""
        horizon = self._clock.now() - window
        for known, seen in list(islice(self._seen.items(), _FORGOTTEN_AT_ONCE)):
            if seen > horizon:
                break
            del self._seen[known]
        seen_at = self._seen.get(message_id) if message_id is not None else None
        return seen_at is not None and seen_at > horizon

    def remember(self, message_id: str | None) -> None:
        """Know the id from now on."""
        if message_id is not None:
            self._seen[message_id] = self._clock.now()


class MemoryStream:
    """Records by position; see the module."""

    def __init__(self, spec: StreamSpec, clock: Clock) -> None:
        self.spec = spec
        self.changed = Signal()
        self.newest = 0
        self._clock = clock
        self._kept: dict[int, Kept] = {}
        self._bytes = 0
        self._seen = DuplicateWindow(clock)

    def append(self, subject: str, body: bytes, message_id: str | None) -> int | None:
        """The new position; None: the id was seen within the window.

        Raises:
            ThrottledError: It is full, and this Stream refuses rather than forgets.
        """
        if self._seen.is_repeat(message_id, self.spec.duplicate_window):
            return None
        self._expire()
        self._make_room(len(body), subject)
        self._seen.remember(message_id)
        self.newest += 1
        self._kept[self.newest] = Kept(position=self.newest, subject=subject, body=body, time=self._clock.now())
        self._bytes += len(body)
        if self.spec.max_per_subject > 0:
            self._forget_older(subject)
        self.changed.fire()
        return self.newest

    def _expire(self) -> None:
        if not self.spec.max_age:
            return
        horizon = self._clock.now() - self.spec.max_age
        while self._kept and (first := next(iter(self._kept.values()))).time <= horizon:
            self.remove(first.position)

    def _make_room(self, size: int, subject: str) -> None:
        if self.spec.max_bytes < 0:
            return
        while self._bytes + size > self.spec.max_bytes:
            if self.spec.refuse_when_full or not self._kept:
                raise ThrottledError(f"{subject}: {self.spec.name} is full", retry_after=FULL_RETRY_AFTER)
            self.remove(next(iter(self._kept)))

    def _forget_older(self, subject: str) -> None:
        same = [kept.position for kept in self._kept.values() if kept.subject == subject]
        for position in same[: -self.spec.max_per_subject]:
            self.remove(position)

    def remove(self, position: int) -> bool:
        """Forget one record; False: it was not there."""
        kept = self._kept.pop(position, None)
        if kept is None:
            return False
        self._bytes -= len(kept.body)
        return True

    def get(self, position: int) -> Kept | None:
        """One record; None: nothing is kept there."""
        self._expire()
        return self._kept.get(position)

    def after(self, position: int, pattern: str) -> Kept | None:
        """The first record behind a position that matches; None: there is none yet."""
        self._expire()
        for candidate in range(max(position + 1, self.oldest), self.newest + 1):
            kept = self._kept.get(candidate)
            if kept is not None and matches(pattern, kept.subject):
                return kept
        return None

    def before(self, time: datetime) -> int:
        """Position of the last record older than `time`; 0: none is."""
        older = [kept.position for kept in self._kept.values() if kept.time < time]
        return older[-1] if older else 0

    def subjects(self) -> list[str]:
        """The subject of each record."""
        self._expire()
        return [kept.subject for kept in self._kept.values()]

    def purge(self, subject: str) -> int:
        """Forget the records of one subject; how many there were."""
        return sum(self.remove(kept.position) for kept in list(self._kept.values()) if kept.subject == subject)

    @property
    def oldest(self) -> int:
        """Position of the oldest record kept; newest + 1 when there is none."""
        return next(iter(self._kept), self.newest + 1)

    def __len__(self) -> int:
        self._expire()
        return len(self._kept)
