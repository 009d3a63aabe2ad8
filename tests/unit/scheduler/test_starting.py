"""Many Workers are started side by side, within a bound."""

from __future__ import annotations

import asyncio

import pytest

from tidemill_common.concurrently import each
from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.snapshot import Start, StartReason

STARTS = [Start(service=ServiceName(f"s{number}"), pool="here", reason=StartReason.BACKLOG) for number in range(10)]


class Starter:
    """Starts wait until they are let go."""

    def __init__(self, *, breaks_at: str | None = None) -> None:
        self.begun: list[str] = []
        self.running = self.most = 0
        self.cancelled: list[str] = []
        self._breaks_at = breaks_at
        self._go = asyncio.Event()

    def go(self) -> None:
        self._go.set()

    async def start(self, start: Start) -> None:
        self.begun.append(start.service)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if start.service == self._breaks_at:
                raise ValueError(start.service)
            await self._go.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(start.service)
            raise
        finally:
            self.running -= 1


async def test_all_are_started_in_their_order_with_no_more_than_the_bound_at_a_time() -> None:
    starter = Starter()
    starter.go()
    await each(STARTS, starter.start, concurrency=4)
    assert starter.begun == [start.service for start in STARTS]
    assert starter.most == 4


async def test_what_one_raises_is_raised_and_no_other_is_begun_or_left_behind() -> None:
    starter = Starter(breaks_at="s2")
    with pytest.raises(ValueError, match="s2"):
        await each(STARTS, starter.start, concurrency=4)
    assert starter.begun == ["s0", "s1", "s2", "s3"]
    assert sorted(starter.cancelled) == ["s0", "s1", "s3"]


async def test_a_cancelled_round_cancels_its_starts() -> None:
    starter = Starter()
    task = asyncio.create_task(each(STARTS, starter.start, concurrency=4))
    while len(starter.begun) < 4:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(starter.cancelled) == 4
