"""Asks a bridge to compare a Service's input folders with EVENTS (docs/internals.md, Reconciliation)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel, ValidationError

from tidemill_common.bus import Live
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import InvalidMessageError, UnavailableError
from tidemill_gateway.calls import fresh_id

RECONCILE: Final = "live.reconcile"


class ReconcileAsked(BaseModel):
    """What is asked of one bridge."""

    service: ServiceName
    since: AwareDatetime | None = None
    backfill: bool = False
    dry_run: bool = False
    reply_to: str


class Reconciled(BaseModel):
    """What the bridge found and did."""

    service: ServiceName
    listed: int = 0
    """Objects in the input folders."""
    missing: int = 0
    """Of these, unknown to EVENTS."""
    submitted: int = 0
    error: str | None = None
    """Why it is not complete; None: it is."""


class Reconciliation:
    """Reconciles through whichever bridge answers."""

    def __init__(self, live: Live, *, patience: timedelta) -> None:
        self._live = live
        self._patience = patience

    async def reconcile(
        self, service: ServiceName, *, since: datetime | None, backfill: bool, dry_run: bool
    ) -> Reconciled:
        """The bridge's answer.

        Raises:
            UnavailableError: No bridge answers.
        """
        reply_to = f"live.reconciled.{fresh_id()}"
        asked = ReconcileAsked(service=service, since=since, backfill=backfill, dry_run=dry_run, reply_to=reply_to)
        async with self._live.subscribe(reply_to) as answers:
            await self._live.publish(RECONCILE, asked.model_dump_json(exclude_none=True).encode())
            try:
                async with asyncio.timeout(self._patience.total_seconds()):
                    async for _, body in answers:
                        return _answer(body)
            except TimeoutError as error:
                raise UnavailableError(f"reconcile {service}: no bridge answers") from error
        raise UnavailableError(f"reconcile {service}: no bridge answers")


def _answer(body: bytes) -> Reconciled:
    try:
        return Reconciled.model_validate_json(body)
    except ValidationError as error:
        raise InvalidMessageError("the bridge's answer is not what was agreed") from error
