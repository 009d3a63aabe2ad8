"""Answering `live.reconcile`: a request names a Service, the bridge compares and answers on `reply_to`.

With several bridges in role `reconciliation` each of them answers. That costs a listing and submits nothing twice,
since all derive the same ids.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tidemill_common.bus import Live
from tidemill_common.errors import TidemillError, TransientError
from tidemill_storage_bridge.pauses import pause, until
from tidemill_storage_bridge.reconciliation import Reconciler, Wish

SUBJECT: Final = "live.reconcile"

_log = structlog.get_logger(__name__)


class ReconcileAsked(BaseModel):
    """The request, from the gateway."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: str
    reply_to: str
    since: AwareDatetime | None = None
    backfill: bool = False
    dry_run: bool = False


class ReconcileAnswered(BaseModel):
    """The answer."""

    model_config = ConfigDict(frozen=True)

    service: str
    listed: int = 0
    missing: int = 0
    submitted: int = 0
    error: str | None = None


class ReconcileRequests:
    """Takes requests and answers them."""

    def __init__(self, live: Live, reconciler: Reconciler) -> None:
        self._live = live
        self._reconciler = reconciler

    async def run(self, stopping: asyncio.Event) -> None:
        """Answer requests until `stopping`; what has begun is answered first."""
        async with asyncio.TaskGroup() as answering:
            await until(stopping, self._take(answering))

    async def _take(self, answering: asyncio.TaskGroup) -> None:
        async with self._live.subscribe(SUBJECT) as requests:
            async for _, body in requests:
                try:
                    asked = ReconcileAsked.model_validate_json(body)
                except ValidationError as error:
                    _log.warning("reconcile request not understood", error=str(error))
                else:
                    answering.create_task(self._answer(asked))

    async def _answer(self, asked: ReconcileAsked) -> None:
        try:
            answer = await self._reconcile(asked)
            await self._live.publish(asked.reply_to, answer.model_dump_json(exclude_none=True).encode())
        except TransientError as error:
            _log.warning("reconcile request not answered", service=asked.service, error=str(error))

    async def _reconcile(self, asked: ReconcileAsked) -> ReconcileAnswered:
        wish = Wish(since=asked.since, backfill=asked.backfill, dry_run=asked.dry_run)
        try:
            report = await self._reconciler.service(asked.service, wish)
        except TidemillError as error:
            _log.warning("reconciliation failed", service=asked.service, error=str(error))
            return ReconcileAnswered(service=asked.service, error=str(error))
        return ReconcileAnswered(
            service=asked.service, listed=report.listed, missing=report.missing, submitted=report.submitted
        )


async def reconcile_on_schedule(reconciler: Reconciler, every: timedelta, stopping: asyncio.Event) -> None:
    """Compare all watched folders again and again, until `stopping`."""
    while not stopping.is_set():
        await pause(stopping, every)
        if stopping.is_set():
            return
        try:
            await reconciler.watched()
        except TransientError as error:
            _log.warning("scheduled reconciliation put off", error=str(error))
