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

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_common.errors import InvalidInputError, NotFoundError, UnavailableError
from tidemill_common.quantity import size_bytes
from tidemill_scheduler.exposing.domain import NOTHING, Exposure, Observation
from tidemill_scheduler.exposing.health import TIMEOUT_SECONDS, Health
from tidemill_scheduler.exposing.instances import Instance, Instances, Places
from tidemill_scheduler.exposing.keeping import HOST, Keeper
from tidemill_scheduler.exposing.lines import tail
from tidemill_scheduler.exposing.ports import OnChange
from tidemill_scheduler.exposing.probing import answers
from tidemill_scheduler.launchers.processes import reap, wait_for_exit

log = structlog.get_logger()


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
        self._keepers: dict[ServiceName, ProcessKeeper] = {}

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
        self._keepers[exposure.name] = ProcessKeeper(
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

    async def _end(self, keeper: ProcessKeeper) -> None:
        await keeper.leave()
        if keeper.instance is not None:
            await self._instances.end(keeper.instance, grace=self._grace)


class ProcessKeeper(Keeper):
    """Keeps one process running."""

    def __init__(
        self,
        exposure: Exposure,
        instances: Instances,
        *,
        adopted: Instance | None,
        grace: float,
        on_change: OnChange,
    ) -> None:
        self.instance = adopted
        self._instances = instances
        self._grace = grace
        super().__init__(exposure, on_change=on_change, is_present=adopted is not None)

    async def _run_once(self) -> str:
        """Why the instance is no more."""
        if self.instance is None:
            _check_free(self.exposure.port)
            memory = size_bytes(self.exposure.service.memory)
            self.instance = self._instances.start(self.exposure, memory_bytes=memory)
        instance = self.instance
        self._show_start()
        reason = await self._watch(instance)
        # while this waits the instance is still ours to end, should we be told to leave
        await self._instances.end(instance, grace=self._grace)
        self.instance = None
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

    @property
    def _ready(self) -> Observation:
        url = f"http://{HOST}:{self.exposure.port}"
        return Observation(urls=(url,), active=1, present=1, most=1, reason=_scale(self.exposure))

    async def _probe(self) -> str:
        """Return why the instance must be replaced."""
        health = Health(started_at=time.monotonic())
        while True:
            ok = await answers(HOST, self.exposure.port, self.exposure.health_path, timeout=TIMEOUT_SECONDS)
            health = health.after(ok=ok, now=time.monotonic())
            if reason := health.trouble(time.monotonic()):
                return reason
            self._show_health(health, self._ready)
            await asyncio.sleep(health.pause)


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
