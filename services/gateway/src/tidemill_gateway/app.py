"""Wiring: opens what the gateway needs, in order, and closes it in reverse.

`Dependencies` is re-exported here for the routes; it stands above the import of the routes, which import it back.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.errors import InvalidInputError
from tidemill_common.lifecycle import background
from tidemill_common.secrets import PLATFORM, SecretStore
from tidemill_common.secrets.opening import open_secrets
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_store
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.calls import Calls, Replies, fresh_id
from tidemill_gateway.catalogue import Catalogue, open_catalogue
from tidemill_gateway.changes import Changes
from tidemill_gateway.dependencies import Dependencies as Dependencies
from tidemill_gateway.dispatch import Dispatcher
from tidemill_gateway.exposed.access import Doorkeeper
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.folding import dead_letter_projector, invocation_projector
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.logs import InvocationLogs
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.migrations import upgrade
from tidemill_gateway.payloads import StoredPayloads
from tidemill_gateway.problems import add_handlers
from tidemill_gateway.removals import Removals
from tidemill_gateway.retention import Janitor
from tidemill_gateway.routes import oscar, v1
from tidemill_gateway.routes.calls import CallRoutes
from tidemill_gateway.routes.exposed import ExposedRoutes
from tidemill_gateway.routes.metrics import router as metrics_router
from tidemill_gateway.server import listen, serving
from tidemill_gateway.settings import Settings
from tidemill_gateway.sql.engine import open_database

log = structlog.get_logger(__name__)


def build_management(deps: Dependencies) -> FastAPI:
    """Everything but the calls."""
    app = FastAPI(
        title="tidemill", version="1", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    add_handlers(app)
    app.include_router(metrics_router(deps))
    app.include_router(v1.router(deps))
    app.include_router(oscar.router(deps))
    return app


def build_app(deps: Dependencies) -> ASGIApp:
    """The whole HTTP application."""
    calls = CallRoutes(
        services=deps.catalogue,
        calls=deps.calls,
        replies=deps.replies,
        payloads=deps.payloads,
        queries=deps.queries,
        settings=deps.settings.calls,
        access_log=deps.access_log,
        metrics=deps.metrics,
    )
    return ExposedRoutes(
        application=Dispatcher(calls, build_management(deps)),
        services=deps.catalogue,
        doorkeeper=Doorkeeper(deps.catalogue, deps.admin),
        states=deps.exposed_states,
        upstreams=deps.upstreams,
    )


@asynccontextmanager
async def open_dependencies(settings: Settings, stopping: asyncio.Event) -> AsyncIterator[Dependencies]:
    """Open bus, database and store, and bring the database up to date.

    Raises:
        InvalidInputError: The secrets directory has no record of the platform's store.
        TransientError: The bus does not answer.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings.bus, name="gateway"))
        await ensure_streams(bus)
        engine = await stack.enter_async_context(open_database(settings.database_url))
        await upgrade(engine)
        secrets = await stack.enter_async_context(open_secrets(settings.secrets, settings.secrets_dir))
        store = await stack.enter_async_context(open_store(DEFAULT_PROVIDER, await platform_fields(secrets)))
        catalogue = await stack.enter_async_context(open_catalogue(settings, engine=engine, bus=bus, secrets=secrets))
        opened = Opened(bus=bus, engine=engine, secrets=secrets, store=store, catalogue=catalogue)
        deps = assemble(settings, opened, stopping)
        stack.push_async_callback(deps.upstreams.close)
        yield deps


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What must be closed again."""

    bus: Bus
    engine: AsyncEngine
    secrets: SecretStore
    store: ObjectStore
    catalogue: Catalogue


def assemble(settings: Settings, opened: Opened, stopping: asyncio.Event) -> Dependencies:
    """Everything that is built on what is open; no I/O."""
    bus, engine = opened.bus, opened.engine
    replies = Replies(
        bus.live, fresh_id(), limit=settings.calls.waiting, service_limit=settings.calls.waiting_per_service
    )
    changes = Changes(replies.settle)
    payloads = StoredPayloads(opened.store, settings.system_bucket)
    return Dependencies(
        settings=settings,
        bus=bus,
        engine=engine,
        secrets=opened.secrets,
        store=opened.store,
        catalogue=opened.catalogue,
        admin=AdminCredentials(username=settings.username, password=settings.admin_password()),
        queries=InvocationQueries(engine, changes),
        logs=InvocationLogs(bus.log),
        payloads=payloads,
        calls=Calls(bus_log=bus.log, payloads=payloads, inline_limit_bytes=settings.calls.inline_limit_bytes),
        replies=replies,
        access_log=AccessLog(settings.access_log_entries),
        metrics=Metrics(),
        changes=changes,
        exposed_states=ExposedStates(bus.registers, bus.live),
        stopping=stopping,
    )


async def platform_fields(secrets: SecretStore) -> dict[str, object]:
    """How to reach the platform's own store."""
    record = await secrets.get(PLATFORM)
    fields = record.providers.get(DEFAULT_PROVIDER) if record else None
    if not fields:
        raise InvalidInputError(f"secrets_dir: no record {PLATFORM!r} with {DEFAULT_PROVIDER}")
    return fields


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set, then drain."""
    async with open_dependencies(settings, stopping) as deps:
        await deps.catalogue.load()
        async with working(deps):
            await _serve(deps)


def working(deps: Dependencies) -> AbstractAsyncContextManager[None]:
    """What runs beside the requests: the catalogue, live replies, the projections, janitor and removals."""
    invocations = invocation_projector(
        bus_log=deps.bus.log, engine=deps.engine, metrics=deps.metrics, changes=deps.changes
    )
    letters = dead_letter_projector(bus_log=deps.bus.log, engine=deps.engine, metrics=deps.metrics)
    return background(
        stop=deps.stopping.set,
        catalogue=deps.catalogue.run(),
        replies=deps.replies.run(),
        invocations=invocations.run(),
        dead_letters=letters.run(),
        janitor=Janitor.of(deps).run(),
        removals=Removals.of(deps).run(),
        exposed_states=deps.exposed_states.run(),
    )


async def _serve(deps: Dependencies) -> None:
    settings = deps.settings
    listener = listen(settings.host, settings.port)
    async with serving(build_app(deps), listener, drain=settings.drain_timeout) as server:
        server.add_done_callback(lambda _: deps.stopping.set())
        _spare_the_collector()
        log.info("ready", host=settings.host, port=listener.getsockname()[1])
        await deps.stopping.wait()
        log.info("draining", timeout=settings.drain_timeout.total_seconds())


def _spare_the_collector() -> None:
    """Take what lives as long as the process out of garbage collection: a full one took 0.1 s, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
