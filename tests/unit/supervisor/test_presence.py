"""A Worker tells what it holds."""

from __future__ import annotations

import json

from tests.unit.supervisor.builders import execution, invocation
from tidemill_common.bus.memory import open_memory
from tidemill_common.settings import BusSettings
from tidemill_supervisor.presence import Presence


async def test_it_tells_what_it_holds_and_not_more_than_fits() -> None:
    held = [execution(invocation(), attempt=2)] * 300
    async with open_memory(BusSettings(url="memory://")) as bus:
        presence = Presence(bus.live, "live.worker.s.w", slots=4, busy=lambda: 3, running=lambda: held)
    report = json.loads(presence.report())
    assert (report["busy"], report["slots"], len(report["invocations"])) == (3, 4, 256)
    assert report["invocations"][0] == {"id": held[0].invocation.id, "attempt": 2, "revision": 1}
    assert len(presence.report()) < 64 * 1024
