"""Wiring: adapters and use cases from settings, and the life of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Bus, StreamAction, Streams
from tidemill_common.bus.opening import open_bus
from tidemill_common.lifecycle import background
from tidemill_scheduler.catalogue import Catalogue
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.exposing.exposing import Exposing
from tidemill_scheduler.exposing.opening import exposer_of
from tidemill_scheduler.exposing.ports import Exposer
from tidemill_scheduler.launchers.opening import launcher_of
from tidemill_scheduler.leadership import LeaderLease
from tidemill_scheduler.machine import usable_memory_bytes, usable_millicores
from tidemill_scheduler.metrics import Metrics, metrics_server
from tidemill_scheduler.ports import ImageKeeper, Launcher
from tidemill_scheduler.scheduling import Policy, Scheduling
from tidemill_scheduler.settings import Settings
from tidemill_scheduler.status import StatusBoard

log = structlog.get_logger()
POOL: Final = "local"


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Schedule until `stopping` is set.

    Raises:
        UnavailableError: The bus cannot be reached at start.
    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics_server(metrics, host=settings.metrics_host, port=settings.metrics_port))
        bus = await stack.enter_async_context(open_bus(settings.bus, name="scheduler"))
        launcher = launcher_of(settings, bus.live)
        stack.push_async_callback(launcher.close)
        exposed_changed = asyncio.Event()
        exposer = exposer_of(settings, exposed_changed.set)
        stack.push_async_callback(exposer.close)
        await _schedule(settings, bus, launcher, exposer, exposed_changed, metrics, stopping)
        if settings.stop_workers_on_exit:
            await stop_all(launcher, exposer, timeout=settings.drain_timeout)


async def _schedule(
    settings: Settings,
    bus: Bus,
    launcher: Launcher,
    exposer: Exposer,
    exposed_changed: asyncio.Event,
    metrics: Metrics,
    stopping: asyncio.Event,
) -> None:
    catalogue, leader = Catalogue(), _candidate(settings, bus, lambda: wake())
    scheduling = _scheduling(settings, bus, launcher, catalogue, leader, metrics)
    exposing = Exposing(
        exposer=exposer,
        definitions=catalogue,
        leader=leader,
        registers=bus.registers,
        live=bus.live,
        woken=exposed_changed,
    )

    def wake() -> None:
        scheduling.wake()
        exposing.wake()

    await _create_missing(bus.streams)
    await catalogue.load(bus.log)
    async with background(
        stop=stopping.set,
        leadership=leader.run(),
        definitions=catalogue.follow(bus.log, wake),
        **scheduling.tasks(bus.live),
        **exposing.tasks(),
    ):
        log.info("scheduler ready", holder=leader.holder)
        await stopping.wait()
    await leader.release()


def _candidate(settings: Settings, bus: Bus, on_change: Callable[[], None]) -> LeaderLease:
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    lease = settings.leader
    return LeaderLease(bus.registers, holder=holder, lease=lease.lease, renew=lease.renew, on_change=on_change)


def _scheduling(
    settings: Settings, bus: Bus, launcher: Launcher, catalogue: Catalogue, leader: LeaderLease, metrics: Metrics
) -> Scheduling:
    policy = policy_of(settings)
    images = launcher.image_views if isinstance(launcher, ImageKeeper) else None
    return Scheduling(
        queue=bus.queue,
        launcher=launcher,
        catalogue=catalogue,
        leader=leader,
        status=StatusBoard(bus.registers, holder=leader.holder, pool=policy.pool, images=images),
        policy=policy,
        metrics=metrics,
        bus_log=bus.log,
    )


async def _create_missing(streams: Streams) -> None:
    """Let the scheduler start first on a new bus. Streams that are there are never changed from here."""
    await streams.apply([change for change in await streams.plan() if change.action is StreamAction.CREATE])


async def stop_all(launcher: Launcher, exposer: Exposer, *, timeout: timedelta) -> None:
    """End Workers and instances; what fails with the ones does not keep the others from ending in order."""
    workers = stop_workers(launcher, timeout=timeout)
    for result in await asyncio.gather(workers, exposer.stop_all(), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def stop_workers(launcher: Launcher, *, timeout: timedelta) -> None:
    """Drain all Workers; kill those that are still there after `timeout`."""
    for running in launcher.workers():
        await launcher.stop(running.spec.id)
    if await _have_ended(launcher, timeout):
        return
    for running in launcher.workers():
        log.warning("worker killed, it did not end in time", worker=running.spec.id, service=running.spec.service)
        await launcher.kill(running.spec.id)
    await _have_ended(launcher, timedelta(seconds=5))


async def _have_ended(launcher: Launcher, timeout: timedelta) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout.total_seconds()):
            exits = launcher.exits()
            while launcher.workers():
                await anext(exits)
    return not launcher.workers()


def policy_of(settings: Settings) -> Policy:
    """What the operator decided, with this machine's size where he did not."""
    cpu = settings.pool.cpu_millicores or usable_millicores()
    return Policy(
        pool=Pool(
            name=POOL,
            cpu_millicores=cpu,
            memory_bytes=settings.pool.memory_bytes or usable_memory_bytes(),
            max_starting=settings.pool.max_starting or max(1, usable_millicores() // 1000),
        ),
        quotas={owner: quota.quota() for owner, quota in settings.quotas.items()},
        default_quota=settings.default_quota.quota(),
        weights=settings.weights,
        idle_timeout=settings.idle_timeout,
        turn=settings.turn,
        start_timeout=settings.start_timeout,
        plan_interval=settings.plan_interval,
        min_gap=settings.min_gap,
        max_stuck=settings.kubernetes.max_unschedulable,
    )
