"""A Worker's life: lease, perform, answer, as many at a time as there are slots, until it is told to stop.

Stopping leases no more, lets what runs finish within the drain time, and gives the rest back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from tidemill_common.bus import Bus, Lease, Leases
from tidemill_common.bus.addresses import busy_subject
from tidemill_common.contracts.contract import InvocationId, ServiceName, WorkerId
from tidemill_common.lifecycle import background
from tidemill_common.secrets import SecretStore
from tidemill_supervisor.attempt import Attempt, Interruption
from tidemill_supervisor.cancels import Cancels
from tidemill_supervisor.definitions import Definition, Definitions
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.leasing import within_reuse
from tidemill_supervisor.performance import Tools
from tidemill_supervisor.presence import Presence
from tidemill_supervisor.provision import Provision
from tidemill_supervisor.reporting import Execution
from tidemill_supervisor.stores import OpenStores

log = structlog.get_logger()

_REVISION_WAIT: Final = timedelta(seconds=5)
"""For a definition that its work has overtaken: on a slow machine, or while the connection to the bus comes back. After
it the old one is used, so it is rather too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this Worker is, and where it works."""

    service: ServiceName
    worker: WorkerId
    mark: str
    node: str
    directory: Path


class Worker:
    """Runs the Invocations of one Service."""

    def __init__(
        self,
        bus: Bus,
        secrets: SecretStore,
        stores: OpenStores,
        identity: Identity,
        tools: Tools,
        *,
        slots: int | None,
        drain_timeout: timedelta,
        definition_timeout: timedelta,
    ) -> None:
        self._bus = bus
        self._identity = identity
        self._tools = tools
        self._slots = slots
        self._drain_timeout = drain_timeout
        self._definition_timeout = definition_timeout
        self._stopping = asyncio.Event()
        self._finishing = asyncio.Event()
        self._removed = False
        self._running: dict[asyncio.Task[None], InvocationId] = {}
        self._attempts: dict[InvocationId, Attempt] = {}
        self._definitions = Definitions(bus.log, identity.service, secrets, stores, removed=self._remove)
        self._cancels = Cancels(bus.log, identity.service, now=tools.clock(), on_cancel=self._cancel)

    def stop(self) -> None:
        """Drain: lease no more, finish what runs within the drain time, give back the rest."""
        self._stopping.set()

    def finish(self) -> None:
        """Lease no more, and end when what runs has finished, however long that takes."""
        self._finishing.set()

    async def run(self) -> None:
        """Work until stopped, until the Service is removed, or until `reuse` is used up.

        Raises:
            UnavailableError: There is no such Service.
        """
        async with background(
            stop=self.stop,
            definitions=self._definitions.follow(),
            cancels=self._cancels.follow(),
            scripts=self._watch_scripts(),
        ):
            definition = await self._beginning()
            if definition is not None:
                await self._work(definition)

    async def _beginning(self) -> Definition | None:
        """The first definition, when it and all cancellations are known; None: stopped before."""
        reading = asyncio.create_task(self._read_first())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return await reading if reading.done() else None
        finally:
            await _cancelled(reading, stopping)

    async def _read_first(self) -> Definition:
        definition = await self._definitions.at_least(0, self._definition_timeout)
        await self._cancels.caught_up()
        await self._tools.scripts.ready()
        return definition

    async def _watch_scripts(self) -> None:
        log.warning("worker can take no more", reason=await self._tools.scripts.over())

    async def _work(self, definition: Definition) -> None:
        reuse = definition.service.reuse
        slots = min(self._slots or definition.service.slots, reuse or 256)
        subject = busy_subject(self._identity.service, self._identity.worker)
        presence = Presence(
            self._bus.live,
            subject,
            slots=slots,
            busy=lambda: min(len(self._running), slots),
            running=lambda: (attempt.execution for attempt in self._attempts.values()),
        )
        async with (
            self._provided(definition, slots) as provision,
            self._bus.queue.leases(self._identity.service, slots=slots) as leases,
            background(stop=self.stop, presence=presence.tell()),
            self._stopped_when_asked(leases),
        ):
            log.info("worker ready", service=self._identity.service, worker=self._identity.worker, slots=slots)
            await self._take(leases, presence, provision, reuse)
            await self._drain()

    @contextlib.asynccontextmanager
    async def _provided(self, definition: Definition, slots: int) -> AsyncIterator[Provision]:
        provision = Provision(self._tools, self._pattern(), slots=slots)
        try:
            provision.warm(definition)
            yield provision
        finally:
            await provision.close()

    async def _take(self, leases: Leases, presence: Presence, provision: Provision, reuse: int | None) -> None:
        taken = 0

        def changed(_: object = None) -> None:
            left = None if reuse is None else reuse - taken
            if (definition := self._definitions.current) is not None:
                leases.allow(within_reuse(provision.allowed(definition), held=len(self._running), left=left))
            presence.changed()

        changed()
        async for lease in leases:
            task = asyncio.create_task(self._handle(lease, provision, presence))
            self._running[task] = lease.invocation.id
            task.add_done_callback(self._running.pop)
            task.add_done_callback(changed)
            taken += 1
            changed()
            if taken == reuse:
                leases.stop()
        provision.hurry()

    async def _handle(self, lease: Lease, provision: Provision, presence: Presence) -> None:
        invocation = lease.invocation
        definition = await self._definitions.at_least(invocation.revision, _REVISION_WAIT)
        await self._cancels.reach(invocation.requested_at)
        handling, place = provision.choose(lease, definition)
        execution = Execution(
            invocation=invocation,
            attempt=lease.attempt,
            revision=definition.revision,
            worker=self._identity.worker,
        )
        attempt = Attempt(
            lease,
            definition,
            place,
            execution,
            self._tools,
            cancelled=invocation.id in self._cancels,
            handling=handling,
        )
        self._attempts[invocation.id] = attempt
        presence.changed()
        try:
            await attempt.run()
        finally:
            provision.ended(lease)
            if self._attempts.get(invocation.id) is attempt:  # else the next Attempt is ours as well
                del self._attempts[invocation.id]

    def _pattern(self) -> Place:
        """A place like all of this Worker's."""
        return Place(
            root=self._identity.directory / "none",
            attempt=0,
            worker=self._identity.worker,
            mark=self._identity.mark,
            node=self._identity.node,
        )

    async def _drain(self) -> None:
        """Let what runs finish; once we are told to stop, within the drain time."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while self._running and not stopping.done():
                await asyncio.wait({*self._running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(stopping)
        if self._running:
            await asyncio.wait(self._running, timeout=self._drain_timeout.total_seconds())
        cause = Interruption.SERVICE_REMOVED if self._removed else Interruption.DRAINED
        for attempt in list(self._attempts.values()):
            attempt.interrupt(cause)
        if self._running:
            await asyncio.wait(self._running)

    def _cancel(self, invocation: InvocationId) -> None:
        if (attempt := self._attempts.get(invocation)) is not None:
            attempt.interrupt(Interruption.CANCELLED)

    def _remove(self) -> None:
        self._removed = True
        self.stop()

    @contextlib.asynccontextmanager
    async def _stopped_when_asked(self, leases: Leases) -> AsyncIterator[None]:
        async def stop_leasing(asked: asyncio.Event) -> None:
            await asked.wait()
            leases.stop()

        tasks = [asyncio.create_task(stop_leasing(asked)) for asked in (self._stopping, self._finishing)]
        try:
            yield
        finally:
            await _cancelled(*tasks)


async def _cancelled(*tasks: asyncio.Task[object] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
