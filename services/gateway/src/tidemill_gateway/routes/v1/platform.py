"""`/v1/accounts`, `/v1/services`, `/v1/cluster`: the books, revisions, reconciliation, and what the scheduler says."""

from __future__ import annotations

import json
from typing import Final

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import NotFoundError, TransientError
from tidemill_gateway.auth import admin
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.domain.account import Account
from tidemill_gateway.reconciliation import Reconciled, Reconciliation
from tidemill_gateway.routes.v1.views import AccountList, AccountView, ClusterView, RevisionView

_SCHEDULER: Final = "scheduler.status"


class ReconcileRequest(BaseModel):
    """What to compare, and what to do about it."""

    since: AwareDatetime | None = None
    backfill: bool = False
    dry_run: bool = False


def router(deps: Dependencies) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["platform"], dependencies=[Depends(admin(deps.admin))])
    reconciliation = Reconciliation(deps.bus.live, patience=deps.settings.reconcile_timeout)

    @routes.get("/accounts", summary="What was asked for, and what became of it")
    async def get_accounts(service: str | None = None) -> AccountList:
        books = await deps.queries.books(service)
        waiting = await _open_on_bus(deps)
        items = [
            AccountView.of(account, waiting.get(account.service, 0) if waiting is not None else None)
            for account in books.accounts
        ]
        unknown = {} if waiting is None or service else waiting
        known = {account.service for account in books.accounts}
        items += [AccountView.of(Account(service=name), unknown[name]) for name in sorted(unknown.keys() - known)]
        balanced = all(item.balanced for item in items)
        return AccountList(items=items, balanced=balanced, skipped=dict(books.skipped))

    @routes.get("/services/{service}/revisions", summary="What a Service was, newest first")
    async def list_revisions(service: str) -> list[RevisionView]:
        revisions = await deps.catalogue.revisions(service)
        if not revisions:
            raise NotFoundError(f"there was never a service {service}")
        return [RevisionView.of(revision) for revision in revisions]

    @routes.post("/services/{service}/reconcile", summary="Find objects that nobody notified")
    async def reconcile(service: str, asked: ReconcileRequest | None = None) -> Reconciled:
        if deps.catalogue.get_cached(service) is None:
            raise NotFoundError(f"there is no service {service}")
        wanted = asked or ReconcileRequest()
        return await reconciliation.reconcile(
            ServiceName(service), since=wanted.since, backfill=wanted.backfill, dry_run=wanted.dry_run
        )

    @routes.get("/cluster", summary="Pools and Workers, as the scheduler tells")
    async def get_cluster() -> ClusterView:
        register = await deps.bus.registers.get(_SCHEDULER)
        if register is None:
            return ClusterView(at=None, scheduler=None)
        return ClusterView(at=register.time, scheduler=json.loads(register.value))

    return routes


async def _open_on_bus(deps: Dependencies) -> dict[str, int] | None:
    """Service -> Invocations on its queues; None: the bus does not tell."""
    try:
        backlog = await deps.bus.queue.backlog()
    except TransientError:
        return None
    return {name: waiting.ready + waiting.delayed for name, waiting in backlog.items()}
