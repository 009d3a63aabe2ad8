"""The negative control of `test_acknowledged_events`: a bridge that answers before it has appended. For tests only."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from tidemill_common.contracts.event import EventReceived
from tidemill_storage_bridge.__main__ import main
from tidemill_storage_bridge.app import SOURCES, http_source
from tidemill_storage_bridge.sources.http import HttpSource


class HastyHttpSource(HttpSource):
    """Breaks the order of effects: the sender hears of success first, the bus of the Event a little later."""

    async def _store(self, events: Sequence[EventReceived]) -> int:
        self._late = [*getattr(self, "_late", []), asyncio.create_task(self._append_later(events))]
        return len(events)

    async def _append_later(self, events: Sequence[EventReceived]) -> None:
        await asyncio.sleep(0.05)
        await super()._store(events)


if __name__ == "__main__":
    sys.exit(main({**SOURCES, "http": partial(http_source, of=HastyHttpSource)}))
