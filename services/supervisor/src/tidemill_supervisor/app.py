"""Wiring: from settings to a Worker that runs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

from tidemill_common.bus import Bus
from tidemill_common.bus.addresses import cause_subject, drain_subject
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.lifecycle import background
from tidemill_common.secrets import FileSecretStore
from tidemill_supervisor.causes import Causes
from tidemill_supervisor.domain.transcript import LogBounds
from tidemill_supervisor.draining import follow_drain
from tidemill_supervisor.performance import Rules, Tools
from tidemill_supervisor.ports import Scripts
from tidemill_supervisor.reporting import Reporter
from tidemill_supervisor.runners import open_scripts
from tidemill_supervisor.settings import Runner, Settings
from tidemill_supervisor.stores import open_stores
from tidemill_supervisor.worker import Identity, Worker
from tidemill_supervisor.workspace import own_directory, remove_abandoned


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Run a Worker until `stopping` is set, its Service is removed, or `reuse` is used up."""
    async with open_worker(settings) as worker, _stopped_by(stopping, worker):
        await worker.run()


@contextlib.asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """A Worker with all that it needs; closed in reverse."""
    mark = secrets.token_hex(16)
    async with contextlib.AsyncExitStack() as stack:
        is_shared = settings.runner is Runner.CONTAINER
        directory = stack.enter_context(own_directory(settings.workspace_dir, settings.worker_id, is_shared=is_shared))
        causes = Causes(cause_subject(ServiceName(settings.service), WorkerId(settings.worker_id)))
        scripts = stack.enter_context(open_scripts(settings, directory, mark, causes.first))
        name = f"worker-{settings.worker_id}"
        bus = await stack.enter_async_context(open_bus(settings.bus, name=name, gathers=True))
        if is_shared:
            await stack.enter_async_context(background(stop=lambda: None, causes=causes.follow(bus.live)))
        sweeping = asyncio.create_task(asyncio.to_thread(remove_abandoned, settings.workspace_dir))
        stack.push_async_callback(asyncio.wait, {sweeping})
        worker = Worker(
            bus,
            FileSecretStore(settings.secrets_dir),
            await stack.enter_async_context(open_stores()),
            Identity(
                service=ServiceName(settings.service),
                worker=WorkerId(settings.worker_id),
                mark=mark,
                node=settings.node_name,
                directory=directory,
            ),
            replace(tools_of(settings, bus, scripts), told=causes.told),
            slots=settings.slots,
            drain_timeout=settings.drain_timeout,
            definition_timeout=settings.definition_timeout,
        )
        subject = drain_subject(ServiceName(settings.service), WorkerId(settings.worker_id))
        draining = follow_drain(bus.live, subject, worker.finish)
        await stack.enter_async_context(background(stop=worker.stop, draining=draining))
        yield worker


def tools_of(settings: Settings, bus: Bus, scripts: Scripts) -> Tools:
    """What Attempts work with."""
    return Tools(
        bus_log=bus.log,
        reporter=Reporter(bus.log, bus.live),
        scripts=scripts,
        clock=lambda: datetime.now(UTC),
        jitter=random.random,
        rules=rules_of(settings),
    )


def rules_of(settings: Settings) -> Rules:
    """The bounds of all Attempts."""
    bounds = LogBounds(
        kept_bytes=settings.logs.kept_bytes,
        line_bytes=settings.logs.line_bytes,
        text_bytes=settings.logs.result_bytes,
    )
    return Rules(
        max_lost=settings.max_lost,
        grace=settings.grace,
        disk_limit_bytes=settings.disk_limit_bytes,
        enforce_memory=settings.enforce_memory,
        parallel_uploads=settings.parallel_uploads,
        bounds=bounds,
        flush_interval=settings.logs.flush_interval,
        system_bucket=settings.system_bucket,
        result_file_bytes=settings.result_file_bytes,
    )


@contextlib.asynccontextmanager
async def _stopped_by(stopping: asyncio.Event, worker: Worker) -> AsyncIterator[None]:
    async def wait() -> None:
        await stopping.wait()

    async with background(stop=worker.stop, stopping=wait()):
        yield
