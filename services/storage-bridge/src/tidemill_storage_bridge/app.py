"""Wiring: from settings to a running storage-bridge. Sources are a table: one more is one module and one line more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import ensure_streams
from tidemill_common.lifecycle import background
from tidemill_common.secrets import SecretStore
from tidemill_common.secrets.opening import open_secrets
from tidemill_storage_bridge.definitions import Definitions
from tidemill_storage_bridge.ports import Source
from tidemill_storage_bridge.publishing import EventPublisher
from tidemill_storage_bridge.reconcile_requests import ReconcileRequests, reconcile_on_schedule
from tidemill_storage_bridge.reconciliation import Reconciler
from tidemill_storage_bridge.recorded import recorded_ids
from tidemill_storage_bridge.retrying import Retries
from tidemill_storage_bridge.routing import Router, RoutingRules
from tidemill_storage_bridge.serving import BridgeHttp, serving
from tidemill_storage_bridge.settings import Role, Settings
from tidemill_storage_bridge.sources.http import HttpSource
from tidemill_storage_bridge.sources.seaweedfs import Filer, SeaweedSource
from tidemill_storage_bridge.sources.tokens import Tokens
from tidemill_storage_bridge.stores import SecretStores, StoredPayloads

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What Sources are built from."""

    settings: Settings
    bus: Bus
    definitions: Definitions
    publisher: EventPublisher
    reconciler: Reconciler


MakeSource = Callable[[Parts], Source | None]
"""None: the settings do not ask for this Source."""


def http_source(parts: Parts, *, of: type[HttpSource] = HttpSource) -> Source:
    """Notifications by HTTP; always there, so that health is too."""
    return of(Tokens.read(parts.settings.tokens_file))


def seaweedfs(parts: Parts, *, of: type[SeaweedSource] = SeaweedSource) -> Source | None:
    """The metadata stream of a SeaweedFS filer."""
    wanted = parts.settings.seaweedfs
    if wanted is None:
        return None
    filer = Filer(
        address=wanted.filer_grpc,
        provider=wanted.provider,
        system_bucket=parts.settings.system_bucket,
        in_flight=wanted.in_flight,
    )
    return of(
        filer,
        registers=parts.bus.registers,
        catch_up=parts.reconciler.watched,
        recorded=partial(recorded_ids, parts.bus.log),
    )


SOURCES: Final[Mapping[str, MakeSource]] = {
    "http": http_source,
    "seaweedfs": seaweedfs,
}


async def run(settings: Settings, stopping: asyncio.Event, *, sources: Mapping[str, MakeSource] = SOURCES) -> None:
    """Run the storage-bridge until `stopping`, then drain.

    Raises:
        InvalidInputError: A file that the settings name is wrong.
        UnavailableError: The bus does not answer at the start.
        UnsupportedError: Streams on the bus differ from this version's table.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings.bus, name="storage-bridge"))
        await ensure_streams(bus)
        secrets = await stack.enter_async_context(open_secrets(settings.secrets, settings.secrets_dir))
        parts = _parts(settings, bus, secrets)
        made = _sources(parts, sources)
        await parts.definitions.load()
        ready = asyncio.Event()
        http = next((source for source in made if isinstance(source, HttpSource)), None)
        app = BridgeHttp(http, is_ready=ready.is_set)
        port = await stack.enter_async_context(
            serving(app, host=settings.host, port=settings.port, drain_timeout=settings.drain_timeout)
        )
        await stack.enter_async_context(background(stop=stopping.set, definitions=parts.definitions.follow()))
        ready.set()
        _log.info("storage-bridge ready", port=port, roles=sorted(settings.roles), sources=[made.name for made in made])
        await _work(parts, made, stopping)
        ready.clear()
        _log.info("storage-bridge drained")


def _parts(settings: Settings, bus: Bus, secrets: SecretStore) -> Parts:
    stores = SecretStores(secrets)
    definitions = Definitions(bus.log)
    publisher = EventPublisher(bus.log, StoredPayloads(stores, system_bucket=settings.system_bucket))
    reconciler = Reconciler(
        bus.log,
        definitions,
        stores,
        partial(publisher.publish, source="listing"),
        streamed=[settings.seaweedfs.provider] if settings.seaweedfs is not None else [],
    )
    return Parts(settings=settings, bus=bus, definitions=definitions, publisher=publisher, reconciler=reconciler)


def _sources(parts: Parts, table: Mapping[str, MakeSource]) -> list[Source]:
    if Role.SOURCES not in parts.settings.roles:
        return []
    made = [make(parts) for make in table.values()]
    return [source for source in made if source is not None]


async def _work(parts: Parts, sources: list[Source], stopping: asyncio.Event) -> None:
    """Run all roles until `stopping`; each finishes what it has in flight before it returns.

    When one ends early the others are stopped in good order, and its error surfaces after that.
    """
    running = [asyncio.create_task(work, name=name) for name, work in _roles(parts, sources, stopping).items()]
    for task in running:
        task.add_done_callback(lambda _: stopping.set())
    await stopping.wait()
    if running:
        _, late = await asyncio.wait(running, timeout=parts.settings.drain_timeout.total_seconds())
        for task in late:
            _log.warning("not drained in time", role=task.get_name())
            task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    if errors := [result for result in results if isinstance(result, Exception)]:
        raise ExceptionGroup("storage-bridge failed", errors)


def _roles(parts: Parts, sources: list[Source], stopping: asyncio.Event) -> dict[str, Coroutine[object, object, None]]:
    settings, bus = parts.settings, parts.bus
    roles: dict[str, Coroutine[object, object, None]] = {
        f"source {source.name}": source.run(partial(parts.publisher.publish, source=source.name), stopping)
        for source in sources
    }
    if Role.ROUTING in settings.roles:
        rules = RoutingRules(system_bucket=settings.system_bucket, in_flight=settings.routing.in_flight)
        roles["routing"] = Router(bus, parts.definitions, rules).run(stopping)
        roles["retries"] = Retries(bus).run(stopping)
    if Role.RECONCILIATION in settings.roles:
        roles["reconciliation"] = ReconcileRequests(bus.live, parts.reconciler).run(stopping)
        if settings.reconcile_every is not None:
            roles["schedule"] = reconcile_on_schedule(parts.reconciler, settings.reconcile_every, stopping)
    return roles
