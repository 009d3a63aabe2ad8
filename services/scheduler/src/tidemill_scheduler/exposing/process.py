"""Exposed Services as processes of this machine. The server binds the port it was written for, so there is one instance
of it, however many are asked for; and two Services with one port cannot run at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Collection, Sequence
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_common.errors import InvalidInputError, NotFoundError, UnavailableError
from tidemill_common.quantity import size_bytes
from tidemill_scheduler.exposing.domain import NOTHING, Exposure, Observation
from tidemill_scheduler.exposing.health import TIMEOUT_SECONDS, Health, pause_before_restart
from tidemill_scheduler.exposing.instances import Instance, Instances, Places
from tidemill_scheduler.exposing.lines import tail
from tidemill_scheduler.exposing.ports import OnChange
from tidemill_scheduler.exposing.probing import answers
from tidemill_scheduler.launchers.processes import reap, wait_for_exit

log = structlog.get_logger()
HOST: Final = "127.0.0.1"
_STABLE_SECONDS: Final = 60.0
"""An instance that ran this long before it died is started again at once."""


class ProcessExposer:
    """Runs one process for each exposed Service.

    Args:
        grace: Seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, places: Places, *, grace: float, on_change: OnChange) -> None:
        self._places = places
        self._instances = Instances(places)
        self._grace = grace
        self._on_change = on_change
        self._found: dict[ServiceName, list[Instance]] = {}
        self._keepers: dict[ServiceName, Keeper] = {}

    async def adopt(self) -> None:
        """See the port."""
        for instance in await asyncio.to_thread(lambda: list(self._instances.recorded())):
            keeper = self._keepers.get(instance.service)
            if keeper is None or keeper.instance is None or keeper.instance.id != instance.id:
                self._found.setdefault(instance.service, []).append(instance)

    async def ensure(self, exposure: Exposure) -> None:
        """See the port. Another version replaces what runs: both cannot have the port."""
        keeper = self._keepers.get(exposure.name)
        if keeper is not None and keeper.exposure.version == exposure.version and not exposure.wish.stopped:
            return
        if exposure.wish.stopped:
            await self.remove(exposure.name)
            return
        _check(exposure)
        adopted = await self._take_found(exposure)
        if keeper is not None:
            await self._end(keeper)
        self._keepers[exposure.name] = Keeper(
            exposure, self._instances, adopted=adopted, grace=self._grace, on_change=self._on_change
        )

    async def remove(self, service: ServiceName) -> None:
        """See the port."""
        for instance in self._found.pop(service, ()):
            await self._instances.end(instance, grace=self._grace)
        if (keeper := self._keepers.pop(service, None)) is not None:
            await self._end(keeper)

    def services(self) -> Collection[ServiceName]:
        """See the port."""
        return {*self._keepers, *self._found}

    def observe(self, service: ServiceName) -> Observation:
        """See the port."""
        keeper = self._keepers.get(service)
        return NOTHING if keeper is None else keeper.observation

    async def logs(self, service: ServiceName, lines: int) -> Sequence[LogLine]:
        """See the port. They stay when the instance has ended."""
        path = self._places.log_file(service)
        if not path.exists():
            raise NotFoundError(f"{service} has written nothing")
        return await asyncio.to_thread(tail, path, lines)

    async def release(self) -> None:
        """See the port."""
        keepers, self._keepers = list(self._keepers.values()), {}
        self._found.clear()
        for keeper in keepers:
            await keeper.leave()

    async def close(self) -> None:
        """See the port."""
        await self.release()

    async def stop_all(self) -> None:
        """See the port."""
        async with asyncio.TaskGroup() as tasks:
            for service in list(self.services()):
                tasks.create_task(self.remove(service))

    async def _take_found(self, exposure: Exposure) -> Instance | None:
        """The process that an earlier scheduler started for this version; others of this Service are ended."""
        adopted = None
        for instance in self._found.pop(exposure.name, ()):
            if adopted is None and instance.version == exposure.version and _runs(instance):
                adopted = instance
                log.info("exposed service adopted", service=exposure.name, instance=instance.id)
            else:
                await self._instances.end(instance, grace=self._grace)
        return adopted

    async def _end(self, keeper: Keeper) -> None:
        await keeper.leave()
        if keeper.instance is not None:
            await self._instances.end(keeper.instance, grace=self._grace)


class Keeper:
    """Keeps one instance of one exposure running, until it is told to leave."""

    def __init__(
        self,
        exposure: Exposure,
        instances: Instances,
        *,
        adopted: Instance | None,
        grace: float,
        on_change: OnChange,
    ) -> None:
        self.exposure = exposure
        self.instance = adopted
        self.observation = Observation(present=1 if adopted else 0)
        self._instances = instances
        self._grace = grace
        self._on_change = on_change
        self._failures = 0
        self._task = asyncio.create_task(self._keep(), name=f"expose {exposure.name}")

    async def leave(self) -> None:
        """Watch no more; the instance goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                reason = await self._run_once()
            except UnavailableError as error:
                reason = str(error)
            self._failures += 1
            self._show(Observation(reason=reason, is_broken=True))
            pause = pause_before_restart(self._failures)
            log.warning("exposed service ended", service=self.exposure.name, reason=reason, next_try_seconds=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Why the instance is no more."""
        if self.instance is None:
            _check_free(self.exposure.port)
            memory = size_bytes(self.exposure.service.memory)
            self.instance = self._instances.start(self.exposure, memory_bytes=memory)
        instance, begun = self.instance, time.monotonic()
        self._show(Observation(present=1, reason=self.observation.reason, is_broken=self.observation.is_broken))
        reason = await self._watch(instance)
        # while this waits the instance is still ours to end, should we be told to leave
        await self._instances.end(instance, grace=self._grace)
        self.instance = None
        if time.monotonic() - begun >= _STABLE_SECONDS:
            self._failures = 0
        return reason

    async def _watch(self, instance: Instance) -> str:
        assert instance.process is not None
        try:
            descriptor = instance.process.open()
        except ProcessLookupError:
            return "ended while no scheduler ran"
        ended = asyncio.ensure_future(wait_for_exit(descriptor))
        probed = asyncio.ensure_future(self._probe())
        try:
            await asyncio.wait({ended, probed}, return_when=asyncio.FIRST_COMPLETED)
            return self._how_it_ended(descriptor) if ended.done() else probed.result()
        finally:
            for task in (ended, probed):
                task.cancel()
            await asyncio.gather(ended, probed, return_exceptions=True)
            os.close(descriptor)

    def _how_it_ended(self, descriptor: int) -> str:
        code, _ = reap(descriptor)
        said = ""
        with contextlib.suppress(OSError):
            last = tail(self._instances.places.log_file(self.exposure.name), 1)
            said = f": {last[-1].text[:300]}" if last else ""
        return f"ended{'' if code is None else f' with exit code {code}'}{said}"

    async def _probe(self) -> str:
        """Return why the instance must be replaced."""
        health = Health(started_at=time.monotonic())
        while True:
            ok = await answers(HOST, self.exposure.port, self.exposure.health_path, timeout=TIMEOUT_SECONDS)
            health = health.after(ok=ok, now=time.monotonic())
            if reason := health.trouble(time.monotonic()):
                return reason
            self._show_health(health)
            await asyncio.sleep(health.pause)

    def _show_health(self, health: Health) -> None:
        if health.is_ready:
            self._show(
                Observation(
                    urls=(f"http://{HOST}:{self.exposure.port}",),
                    active=1,
                    present=1,
                    most=1,
                    reason=_scale(self.exposure),
                )
            )
        elif health.has_answered:
            self._show(Observation(present=1, reason="does not answer the health probe", is_broken=True))

    def _show(self, observation: Observation) -> None:
        if observation != self.observation:
            self.observation = observation
            self._on_change()


def _scale(exposure: Exposure) -> str:
    if exposure.min_scale <= 1:
        return ""
    return f"one instance of {exposure.min_scale}: a process has the machine's port {exposure.port} to itself"


def _check(exposure: Exposure) -> None:
    if exposure.expose.default_command:
        raise InvalidInputError(
            "default_command needs the image, and the process launcher has none; use launcher docker or kubernetes"
        )


def _check_free(port: int) -> None:
    """Whether something else listens on the port: it would get this Service's requests.

    Raises:
        UnavailableError: Something does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(f"port {port} is used by another program of this machine") from error
            raise UnavailableError(f"port {port}: {error.strerror}") from error


def _runs(instance: Instance) -> bool:
    try:
        if instance.process is None:
            return False
        os.close(instance.process.open())
    except ProcessLookupError:
        return False
    return True
