"""OSCAR's paths (`/system/*`, `/health`, `/ui/`): one module per area, compatible with its clients."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Depends

from tidemill_gateway.auth import admin
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.exposed.access import Doorkeeper
from tidemill_gateway.exposed.logs import ExposedLogs
from tidemill_gateway.exposed.wishes import Wishes
from tidemill_gateway.routes.oscar import health, info, quotas
from tidemill_gateway.routes.oscar.buckets import BucketRoutes
from tidemill_gateway.routes.oscar.config import ConfigRoutes
from tidemill_gateway.routes.oscar.deployment import DeploymentRoutes
from tidemill_gateway.routes.oscar.federation import FederationRoutes
from tidemill_gateway.routes.oscar.logs import LogRoutes
from tidemill_gateway.routes.oscar.metrics import MetricRoutes
from tidemill_gateway.routes.oscar.platform_store import PlatformStore
from tidemill_gateway.routes.oscar.service_auth import ServiceAuthRoutes
from tidemill_gateway.routes.oscar.services import ServiceRoutes
from tidemill_gateway.routes.oscar.status import StatusRoutes
from tidemill_gateway.routes.oscar.ui import UiRoutes

__all__ = ["router"]


def router(deps: Dependencies) -> APIRouter:
    """All routes of this package; those below `/system` are for the admin."""
    routes = APIRouter(tags=["OSCAR"])
    routes.include_router(health.router())
    routes.include_router(UiRoutes(deps.settings.ui_dir).router())
    routes.include_router(ServiceAuthRoutes(Doorkeeper(deps.catalogue, deps.admin)).router())
    for part in _system(deps):
        routes.include_router(part, dependencies=[Depends(admin(deps.admin))])
    return routes


def _system(deps: Dependencies) -> list[APIRouter]:
    catalogue, settings = deps.catalogue, deps.settings
    store = PlatformStore(deps.secrets, endpoint=settings.store_endpoint)
    return [
        info.router(),
        quotas.router(),
        ConfigRoutes(settings=catalogue.settings, store=store, rules=catalogue.rules).router(),
        ServiceRoutes(
            catalogue=catalogue, secrets=deps.secrets, store=store, who=settings.username, states=deps.exposed_states
        ).router(),
        DeploymentRoutes(
            catalogue,
            states=deps.exposed_states,
            wishes=Wishes(deps.bus.registers, deps.bus.live),
            logs=ExposedLogs(deps.bus.live),
        ).router(),
        FederationRoutes(catalogue).router(),
        LogRoutes(
            catalogue=catalogue,
            invocations=deps.queries,
            logs=deps.logs,
            access=deps.access_log,
            bus_log=deps.bus.log,
            who=settings.username,
        ).router(),
        BucketRoutes(catalogue.buckets).router(),
        MetricRoutes(catalogue=catalogue, engine=deps.engine).router(),
        StatusRoutes(buckets=catalogue.buckets, invocations=deps.queries, started=datetime.now(UTC)).router(),
    ]
