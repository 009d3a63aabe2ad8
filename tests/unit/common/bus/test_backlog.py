"""What the backlog shows while an Attempt goes on from one place to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from tidemill_common.bus.nats.queue import NatsWorkQueue
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.settings import BusSettings

WAY = ("retry.v1.asked.ocr", "later.0.ocr.batch.i1", "work.0.ocr.batch")
"""Of a retry: asked for, planned, ready."""


class _Wire:
    """A server on which one Attempt goes on after so many looks."""

    def __init__(self, *moves: int) -> None:
        self._moves = moves
        self._looks = 0

    async def api(self, subject: str, query: Mapping[str, str]) -> dict[str, Any]:
        at = WAY[sum(move <= self._looks for move in self._moves)]
        self._looks += 1
        is_here = at.startswith("retry.") == subject.endswith(".RETRIES")
        matches = at.startswith(query["subjects_filter"].rstrip("*>"))
        subjects = {at: 1} if is_here and matches else {}
        return {"state": {"messages": int(is_here), "subjects": subjects}, "total": len(subjects)}


@pytest.mark.parametrize("planned", range(5))
@pytest.mark.parametrize("ready", range(5))
async def test_an_attempt_that_goes_on_is_never_nowhere(planned: int, ready: int) -> None:
    queue = NatsWorkQueue(cast(Wire, _Wire(planned, ready)), BusSettings(shards=1))
    assert set(await queue.backlog()) == {"ocr"}
