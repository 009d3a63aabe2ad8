"""What instances of exposed Services wrote: the scheduler is asked, because it can reach them."""

from __future__ import annotations

import asyncio
from typing import Final

from tidemill_common.bus import Live
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LOGS, LogsAnswered, LogsAsked
from tidemill_common.errors import UnavailableError
from tidemill_gateway.calls import fresh_id

_PATIENCE_SECONDS: Final = 10.0


class ExposedLogs:
    """Asks for lines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def newest(self, service: str, lines: int) -> LogsAnswered:
        """The newest lines.

        Raises:
            UnavailableError: No scheduler answers.
        """
        asked = LogsAsked(service=ServiceName(service), lines=lines, reply_to=f"live.exposed-lines.{fresh_id()}")
        async with self._live.subscribe(asked.reply_to) as answers:
            await self._live.publish(LOGS, asked.encode())
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    async for _, body in answers:
                        return LogsAnswered.decode(body)
            except TimeoutError as error:
                raise UnavailableError(f"logs of {service}: no scheduler answers") from error
        raise UnavailableError(f"logs of {service}: no scheduler answers")
