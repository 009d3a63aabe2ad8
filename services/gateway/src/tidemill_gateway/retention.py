"""Forgets what ended long ago: rows, dead letters that DEAD dropped, payloads, results. Accounts say how many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.bus import Log
from tidemill_common.contracts.invocation import SET_ASIDE
from tidemill_common.errors import NotFoundError, TidemillError
from tidemill_common.storage import ObjectStore
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.domain.fold import TERMINAL_PHASES
from tidemill_gateway.payloads import PAYLOADS, RESULTS
from tidemill_gateway.settings import Retention
from tidemill_gateway.sql import accounts
from tidemill_gateway.sql.engine import writing
from tidemill_gateway.sql.projection_tables import dead_letters, invocations

log = structlog.get_logger(__name__)
_BATCH: Final = 1000
"""Rows a transaction, so that projections wait only for a moment."""


class Janitor:
    """Removes what is older than the settings say, a little at a time. Every step is safe to repeat, on any replica."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        bus_log: Log,
        store: ObjectStore,
        bucket: str,
        retention: Retention,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._log = bus_log
        self._store = store
        self._bucket = bucket
        self._retention = retention
        self._now = now

    @classmethod
    def of(cls, deps: Dependencies) -> Janitor:
        """The janitor of a gateway."""
        return cls(
            engine=deps.engine,
            bus_log=deps.bus.log,
            store=deps.store,
            bucket=deps.settings.system_bucket,
            retention=deps.settings.retention,
        )

    async def run(self) -> None:
        """Clean up again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._retention.interval.total_seconds())
            try:
                await self.clean()
            except (TidemillError, SQLAlchemyError, OSError) as error:
                log.warning("janitor waits", error=str(error))

    async def clean(self) -> None:
        """One round."""
        while await self._forget_rows():
            pass
        await self._forget_letters()
        await self._forget_objects()

    async def _forget_rows(self) -> bool:
        """Remove some rows and count them; False: none are left."""
        now, table = self._now(), invocations.c
        old = sa.or_(
            table.finished_at < now - self._retention.invocations,
            sa.and_(table.hidden, table.finished_at < now - self._retention.hidden),
        )
        ended = table.phase.in_([phase.value for phase in TERMINAL_PHASES])
        query = sa.select(table.id).where(ended, old).order_by(table.finished_at).limit(_BATCH)
        async with writing(self._engine) as connection:
            removed = await connection.execute(
                sa.delete(invocations).where(table.id.in_(query.scalar_subquery())).returning(table.service)
            )
            services = [record.service for record in removed]
            await accounts.grow(connection, accounts.summed((service, "pruned") for service in services))
        return bool(services)

    async def _forget_letters(self) -> None:
        oldest, _ = await self._log.end(SET_ASIDE)
        async with writing(self._engine) as connection:
            await connection.execute(sa.delete(dead_letters).where(dead_letters.c.position < oldest))

    async def _forget_objects(self) -> None:
        limit = self._now() - self._retention.objects
        for folder in (PAYLOADS, RESULTS):
            try:
                async for stored in self._store.list(f"{self._bucket}/{folder}/"):
                    if stored.modified < limit:
                        await self._store.delete(stored.path)
            except NotFoundError:  # the bucket is made with the first large payload
                return
