"""Ends what a removed Service left open, as OSCAR does: its queue is purged, so nobody else would end it.

Looks again and again instead of only at the removal: an Event that was routed a moment too late, and a gateway that was
killed in between, leave open Invocations as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.bus import Log
from tidemill_common.contracts.invocation import Phase, Reason
from tidemill_common.definitions import is_removed
from tidemill_common.errors import TidemillError
from tidemill_gateway.cancellation import cancel
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.invocations import InvocationFilter, InvocationQueries
from tidemill_gateway.sql.engine import reading
from tidemill_gateway.sql.projection_tables import accounts

log = structlog.get_logger(__name__)
_INTERVAL_SECONDS: Final = 5.0
_BATCH: Final = 500

OrphanedBefore = Callable[[str], Awaitable[datetime | None]]
"""Open Invocations of this Service requested before the instant have nobody left who would run them; None: none has."""
_ALL: Final = datetime.max.replace(tzinfo=UTC)


class Removals:
    """Cancels open Invocations whose Service is gone, or was removed and defined anew since."""

    def __init__(
        self, *, engine: AsyncEngine, queries: InvocationQueries, bus_log: Log, orphaned_before: OrphanedBefore
    ) -> None:
        self._engine = engine
        self._queries = queries
        self._log = bus_log
        self._orphaned_before = orphaned_before

    @classmethod
    def of(cls, deps: Dependencies) -> Removals:
        """Those of a gateway."""

        async def orphaned_before(name: str) -> datetime | None:
            if definition := await deps.catalogue.get(name):
                # never removed: all is its own, also what seems older, for clocks differ and Events wait for routing
                return definition.created_at if await deps.catalogue.was_removed(name) else None
            return _ALL if await is_removed(deps.bus.log, name) else None

        return cls(engine=deps.engine, queries=deps.queries, bus_log=deps.bus.log, orphaned_before=orphaned_before)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            try:
                await self.end_orphans()
            except (TidemillError, SQLAlchemyError, OSError) as error:
                log.warning("removals wait", error=str(error))

    async def end_orphans(self) -> int:
        """One round; returns how many Invocations were ended."""
        ended = 0
        for service in await self._with_open():
            if (until := await self._orphaned_before(service)) is None:
                continue
            for phase in (Phase.PENDING, Phase.RUNNING):
                ended += await self._end(InvocationFilter(service=service, phase=phase, until=until, hidden=True))
        return ended

    async def _end(self, wanted: InvocationFilter) -> int:
        page = await self._queries.list(wanted, limit=_BATCH)
        for row in page.rows:
            await cancel(row, self._log, principal="removal of the service", reason=Reason.SERVICE_REMOVED)
        return len(page.rows)

    async def _with_open(self) -> list[str]:
        """Services that have open Invocations, by their counters: cheap whatever is kept."""
        table = accounts.c
        query = sa.select(table.service).where(
            table.requested > table.succeeded + table.failed + table.dead + table.cancelled
        )
        async with reading(self._engine) as connection:
            return list((await connection.execute(query.order_by(table.service))).scalars())
