"""Lines reach LOGS while a script runs, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.supervisor.builders import NAME, NOW, identified
from tidemill_common.bus import Bus
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.invocation import LOG_WRITTEN, LogWritten
from tidemill_common.settings import BusSettings
from tidemill_supervisor.domain.transcript import LogBounds, Transcript
from tidemill_supervisor.logs import LogShipper

SOON = timedelta(milliseconds=1)


class SlowLog:
    """The memory log, whose appends wait for a gate."""

    def __init__(self, bus: Bus) -> None:
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()
        self._log = bus.log

    async def append(self, *arguments: Any, **options: Any) -> Any:
        self.asked.set()
        await self.gate.wait()
        return await self._log.append(*arguments, **options)


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with open_memory(BusSettings(url="memory://")) as opened:
        yield opened


def shipper(bus: Bus, log: Any = None) -> LogShipper:
    return LogShipper(
        log or bus.log,
        Transcript(LogBounds()),
        invocation=identified("i1"),
        service=NAME,
        attempt=2,
        clock=lambda: NOW,
    )


async def records(bus: Bus) -> list[LogWritten]:
    async with bus.log.read(LOG_WRITTEN, key=f"{NAME}.i1") as found:
        return [record.body async for record in found]


async def test_lines_are_shipped_while_the_script_runs(bus: Bus) -> None:
    ships = shipper(bus)
    async with ships.shipping(SOON), asyncio.timeout(5):
        ships.write(b"one\ntw")
        while not await records(bus):
            await asyncio.sleep(0)
        ships.write(b"o\n")
    await ships.ship_rest(timedelta(seconds=1))
    assert [(record.first_line, record.lines, record.attempt) for record in await records(bus)] == [
        (0, ("one",), 2),
        (1, ("two",), 2),
    ]


async def test_lines_on_their_way_when_the_script_ends_are_not_lost(bus: Bus) -> None:
    slow = SlowLog(bus)
    ships = shipper(bus, slow)
    async with ships.shipping(SOON):
        ships.write(b"one\n")
        await slow.asked.wait()
    slow.gate.set()
    await ships.ship_rest(timedelta(seconds=1))
    assert [record.lines for record in await records(bus)] == [("one",)]


async def test_a_bus_that_takes_no_lines_does_not_hold_up_the_end(bus: Bus) -> None:
    ships = shipper(bus, SlowLog(bus))
    ships.write(b"one\n")
    async with asyncio.timeout(5):
        await ships.ship_rest(SOON)
    assert ships.transcript.tail == "one\n"
