"""One Worker's surroundings, with real scripts, and the bus and stores in memory."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.retries import storing_retries
from tests.unit.supervisor.builders import NAME, called_event, execution, invocation, place, service, stored_event
from tidemill_common.bus import Bus, Lease, Leases
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.contract import EventId
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import CHANGED, LOG_WRITTEN, InvocationChanged
from tidemill_common.settings import BusSettings
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_supervisor.attempt import Attempt
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.performance import Rules, Tools
from tidemill_supervisor.processes import ProcessScripts
from tidemill_supervisor.provision import Provision
from tidemill_supervisor.reporting import Reporter


class OneStore:
    """The platform's store alone."""

    def __init__(self) -> None:
        self.store = MemoryObjectStore("data", "tidemill")
        self.pauses: Sequence[timedelta] = ()

    def is_shared(self, provider: str) -> bool:
        return True

    async def open(self, provider: str) -> ObjectStore:
        return self.store


@dataclass
class World:
    """One Worker's surroundings, with one slot."""

    bus: Bus
    leases: Leases
    root: Path
    tools: Tools
    provision: Provision
    stores: OneStore = field(default_factory=OneStore)
    defaults: dict[str, Any] = field(default_factory=dict)
    """Fields of the Service."""
    revision: int = 1
    calls: int = 0

    async def lease(self, body: bytes = b"", *, path: str | None = None, **fields: Any) -> Lease:
        self.calls += 1
        values = {"id": EventId(f"c{self.calls}"), **fields}
        event: EventReceived = stored_event(path, **values) if path else called_event(body, **values)
        await self.bus.queue.submit(invocation(event))
        return await self.next_lease()

    async def next_lease(self) -> Lease:
        async with asyncio.timeout(30):
            return await anext(aiter(self.leases))

    def attempt(self, lease: Lease, script: str, **fields: Any) -> Attempt:
        values = {**self.defaults, "retry": {"attempts": 1}, **fields}
        definition = Definition(
            service=service(script, **values), revision=self.revision, secrets={}, stores=self.stores
        )
        handling, at = self.provision.choose(lease, definition)
        record = execution(lease.invocation, lease.attempt)
        return Attempt(lease, definition, at, record, self.tools, cancelled=False, handling=handling)

    async def call(self, script: str, body: bytes = b"", **fields: Any) -> InvocationChanged:
        """One whole Attempt; returns its last record."""
        lease = await self.lease(body)
        await self.attempt(lease, script, **fields).run()
        return (await self.changes(lease.invocation.id))[-1]

    async def changes(self, of: str) -> list[InvocationChanged]:
        async with self.bus.log.read(CHANGED) as records:
            return [record.body async for record in records if record.body.invocation_id == of]

    async def lines(self, of: str) -> list[str]:
        async with self.bus.log.read(LOG_WRITTEN, key=f"{NAME}.{of}") as records:
            return [line async for record in records for line in record.body.lines]


@contextlib.asynccontextmanager
async def open_world(root: Path, **defaults: Any) -> AsyncIterator[World]:
    """With these fields of the Service."""
    mark = secrets.token_hex(8)  # a guardian kills whatever has its mark, also of tests that run beside these
    guardian = Guardian(mark)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(guardian.close)
        bus = await stack.enter_async_context(open_memory(BusSettings(url="memory://")))
        await stack.enter_async_context(storing_retries(bus))
        tools = Tools(
            bus_log=bus.log,
            reporter=Reporter(bus.log, bus.live),
            scripts=ProcessScripts(guardian),
            clock=lambda: datetime.now(UTC),
            jitter=lambda: 0.0,
            rules=Rules(grace=timedelta(milliseconds=100)),
        )
        provision = Provision(tools, place(root, mark=mark), slots=1)
        stack.push_async_callback(provision.close)
        leases = await stack.enter_async_context(bus.queue.leases(NAME, slots=8))
        yield World(bus, leases, root, tools, provision, defaults=defaults)
