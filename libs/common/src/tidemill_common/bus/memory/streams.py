"""Plans for the Streams of an in-process bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidemill_common.bus import StreamAction, StreamChange
from tidemill_common.bus.streams import StreamSpec, describe, stream_plan
from tidemill_common.errors import UnsupportedError


class MemoryStreams:
    """The Streams that are there against the table that the settings make.

    Args:
        table: As it should be.
        there: As it is; changed by `apply`.
        kept: How many records a Stream holds.
        changed: Told of each Stream that was created or changed.
    """

    def __init__(
        self,
        table: Sequence[StreamSpec],
        there: dict[str, StreamSpec],
        kept: Callable[[str], int],
        changed: Callable[[StreamSpec], None],
    ) -> None:
        self._table = {spec.name: spec for spec in table}
        self._there = there
        self._kept = kept
        self._changed = changed

    async def plan(self) -> Sequence[StreamChange]:
        """What differs; empty: nothing."""
        return stream_plan(tuple(self._table.values()), {name: spec.config() for name, spec in self._there.items()})

    async def apply(self, changes: Sequence[StreamChange]) -> None:
        """Carry out a plan; see `Streams.apply`."""
        for change in changes:
            if change.action is StreamAction.RECREATE and (kept := self._kept(change.stream)):
                raise UnsupportedError(f"{describe(change)}: it holds {kept} messages, which this would lose")
        for change in changes:
            spec = self._table[change.stream]
            self._there[spec.name] = spec
            self._changed(spec)
