"""Keeping the index of Triggers up with DEFINITIONS, so that no Event is routed by definitions older than itself.

The gateway publishes a definition, acknowledged, before it answers; whoever uploads a file after that answer must find
the Service's Trigger. Routing therefore asks `caught_up` after it got an Event: the end of DEFINITIONS is compared with
what is applied, once for all Events that wait at that moment.
"""

from __future__ import annotations

import asyncio

import structlog

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.service import DEFINED, ServiceDefined
from tidemill_storage_bridge.domain.triggers import Triggers

_log = structlog.get_logger(__name__)


class Definitions:
    """The Triggers of all Services, fed from DEFINITIONS."""

    def __init__(self, log: Log) -> None:
        self.triggers = Triggers()
        self._log = log
        self._applied = Position(0)
        self._next_check: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Apply all that DEFINITIONS holds now."""
        await self._catch_up()

    async def follow(self) -> None:
        """Apply what is published from now on, until cancelled; keeps direct calls and listings up to date."""
        async with self._log.read(DEFINED, start=Position(self._applied + 1), follow=True) as records:
            async for record in records:
                self._apply(record)

    async def caught_up(self) -> None:
        """Return when the index holds each definition that was published before this call.

        Calls that come while a check is running share the next one: at most two are under way.

        Raises:
            TransientError: The bus does not answer.
        """
        if self._next_check is None:
            self._next_check = asyncio.create_task(self._check(self._running))
        await asyncio.shield(self._next_check)

    async def _check(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        # from here on a caller may have come after the end is asked for, so it needs a check of its own
        self._running, self._next_check = self._next_check, None
        await self._catch_up()

    async def _catch_up(self) -> None:
        _, end = await self._log.end(DEFINED)
        if end <= self._applied:
            return
        async with self._log.read(DEFINED, start=Position(self._applied + 1)) as records:
            async for record in records:
                self._apply(record)
        # a record that broke its contract was skipped, and is never waited for
        self._applied = max(self._applied, end)

    def _apply(self, record: Record[ServiceDefined]) -> None:
        self.triggers.apply(record.body, record.position)
        self._applied = max(self._applied, record.position)
