"""What EVENTS knows about objects, compactly; and which objects of a listing count as missing in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from tidemill_common.contracts.event import OBJECT_REMOVED, ArtifactRef, EventReceived

CLOCK_TOLERANCE: Final = timedelta(seconds=2)
"""An Event may be this much older than its object: stores give times in whole seconds, and clocks differ."""


@dataclass(slots=True)
class KnownObjects:
    """Content that Events told of: about 100 bytes each, whatever the length of the keys."""

    _newest: dict[int, int] = field(default_factory=dict)
    """Hash of provider, path and etag -> time of the newest Event about it, in microseconds."""

    def add(self, event: EventReceived) -> None:
        """Note one Event; those about nothing stored, or about removals, say nothing about content."""
        if event.artifact is not None and event.type != OBJECT_REMOVED:
            self.note(event.artifact, event.time)

    def note(self, artifact: ArtifactRef, at: datetime) -> None:
        """Note that this content was told of at that time."""
        key, time = _key(artifact, artifact.etag), _microseconds(at)
        if time > self._newest.get(key, -1):
            self._newest[key] = time

    def has(self, artifact: ArtifactRef, *, modified: datetime) -> bool:
        """Whether an Event told of this content at or after its modification (less the tolerance).

        An Event without an etag counts for any.
        """
        oldest = _microseconds(modified - CLOCK_TOLERANCE)
        return any(self._newest.get(_key(artifact, etag), -1) >= oldest for etag in {artifact.etag, None})

    def __len__(self) -> int:
        return len(self._newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How far back EVENTS reaches."""

    complete: bool
    """Nothing was ever dropped from it."""
    oldest: datetime | None
    """When its oldest Event was stored; None: it is empty."""


def reach(memory: Memory, *, defined: datetime, handled: datetime | None) -> datetime | None:
    """Objects older than this are not submitted unasked: they may have been handled, or were there before the Service.

    Args:
        defined: When the Service was defined.
        handled: Up to when a stream is known to have been handled; None: unknown.

    Returns:
        None: no object is safe to submit unasked.
    """
    if memory.complete:
        return min(memory.oldest or defined, defined) - CLOCK_TOLERANCE
    return memory.oldest or handled


def outermost(paths: Iterable[str]) -> list[str]:
    """The folders that hold all others among them, sorted: listing these lists everything once."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not kept or not path.startswith(f"{kept[-1]}/"):
            kept.append(path)
    return kept


def _key(artifact: ArtifactRef, etag: str | None) -> int:
    text = "\0".join((artifact.provider, artifact.path, etag or ""))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)
