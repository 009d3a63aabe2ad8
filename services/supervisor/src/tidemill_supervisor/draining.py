"""Asked over the bus to drain: `live.drain.<service>.<worker>` (docs/internals.md).

In a cluster a SIGTERM reaches the user's container as well and has an end; this request has none. It is repeated until
the Worker has ended, so a lost message does no harm.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tidemill_common.bus import Live

log = structlog.get_logger()


async def follow_drain(live: Live, subject: str, finish: Callable[[], None]) -> None:
    """Call `finish` whenever it is asked, for ever."""
    async with live.subscribe(subject) as asked:
        async for _ in asked:
            log.info("asked to drain")
            finish()
