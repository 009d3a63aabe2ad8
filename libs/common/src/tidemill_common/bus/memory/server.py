"""The in-process bus: what a server would keep, and connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tidemill_common.bus import Bus, Capability
from tidemill_common.bus.addresses import DEAD, RETRIES, STATE
from tidemill_common.bus.memory.clock import Clock, LoopClock
from tidemill_common.bus.memory.live import MemoryLive
from tidemill_common.bus.memory.log import MemoryConsumer, MemoryLog
from tidemill_common.bus.memory.queue import MemoryWorkQueue
from tidemill_common.bus.memory.registers import MemoryRegisters
from tidemill_common.bus.memory.stream import MemoryStream
from tidemill_common.bus.memory.streams import MemoryStreams
from tidemill_common.bus.memory.work import WorkStore
from tidemill_common.bus.streams import StreamSpec, stream_table
from tidemill_common.settings import BusSettings


class MemoryServer:
    """What all connections share. Its Streams are there from the start, as the first settings say."""

    def __init__(self, settings: BusSettings, clock: Clock | None = None) -> None:
        self.clock = clock or LoopClock()
        self.specs: dict[str, StreamSpec] = {spec.name: spec for spec in stream_table(settings)}
        self.streams = {name: MemoryStream(spec, self.clock) for name, spec in self.specs.items() if not _other(spec)}
        self.consumers: dict[str, MemoryConsumer] = {}
        self.live = MemoryLive()
        self.registers = MemoryRegisters(self.clock)
        self.work = WorkStore(self.clock, self.streams[DEAD], self.streams[RETRIES])

    @asynccontextmanager
    async def connect(self, settings: BusSettings) -> AsyncIterator[Bus]:
        """One more connection."""
        queue = MemoryWorkQueue(self.work, self.live, settings)
        try:
            yield Bus(
                log=MemoryLog(self.streams, self.consumers, self.clock),
                queue=queue,
                live=self.live,
                registers=self.registers,
                streams=MemoryStreams(stream_table(settings), self.specs, self._kept, self._change),
                capabilities=frozenset(Capability),
            )
        finally:
            await queue.close()

    def _kept(self, name: str) -> int:
        stream = self.streams.get(name)
        return len(self.work.all) if stream is None else len(stream)

    def _change(self, spec: StreamSpec) -> None:
        if not _other(spec):
            self.streams.setdefault(spec.name, MemoryStream(spec, self.clock)).spec = spec


def _other(spec: StreamSpec) -> bool:
    """Whether it is kept elsewhere than in a MemoryStream."""
    return spec.schedules or spec.name == STATE


@dataclass(slots=True)
class _Shared:
    server: MemoryServer
    connections: int = field(default=0)


_SHARED: Final[dict[str, _Shared]] = {}


@asynccontextmanager
async def open_memory(settings: BusSettings, *, clock: Clock | None = None) -> AsyncIterator[Bus]:
    """`memory://name`: one bus for all who open that name while somebody has it open; `memory://`: one's own."""
    name = settings.url.partition("://")[2]
    if not name:
        async with MemoryServer(settings, clock).connect(settings) as bus:
            yield bus
        return
    shared = _SHARED.setdefault(name, _Shared(MemoryServer(settings, clock)))
    shared.connections += 1
    try:
        async with shared.server.connect(settings) as bus:
            yield bus
    finally:
        shared.connections -= 1
        if not shared.connections:
            del _SHARED[name]
