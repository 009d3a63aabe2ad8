"""Changes of Invocations as this process folds them, for whoever follows one Invocation now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tidemill_common.bus import Record
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import InvocationChanged

Listener = Callable[[InvocationChanged], None]


@dataclass(frozen=True, slots=True)
class _Follower:
    event: asyncio.Event


class Changes:
    """Tells followers that an Invocation changed; what it is now they read from SQL, so none is too slow."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners
        self._followers: dict[InvocationId, set[_Follower]] = {}

    def publish(self, records: Sequence[Record[InvocationChanged]]) -> None:
        """Records that SQL has now."""
        for record in records:
            for listener in self._listeners:
                listener(record.body)
            for follower in self._followers.get(record.body.invocation_id, ()):
                follower.event.set()

    @contextmanager
    def follow(self, invocation: InvocationId) -> Iterator[asyncio.Event]:
        """An event that is set whenever the Invocation changed; the follower clears it."""
        follower = _Follower(asyncio.Event())
        followers = self._followers.setdefault(invocation, set())
        followers.add(follower)
        try:
            yield follower.event
        finally:
            followers.discard(follower)
            if not followers:
                self._followers.pop(invocation, None)
