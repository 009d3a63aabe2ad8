"""What the gateway knows of exposed Services: the newest that was told, also while the bus is asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tidemill_common.bus import Register, Registers
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import DeploymentState, ExposedState, state_register, state_subject
from tidemill_common.settings import BusSettings
from tidemill_gateway.exposed.states import ExposedStates

AT = datetime(2026, 1, 2, tzinfo=UTC)


class SlowRegisters:
    """Answer with what was there when they were asked, once they are let."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self.asked, self.answering = asyncio.Event(), asyncio.Event()

    async def get(self, name: str) -> Register | None:
        found = await self._registers.get(name)
        self.asked.set()
        await self.answering.wait()
        return found

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        return await self._registers.put(name, value, revision=revision)

    async def delete(self, name: str) -> None:
        await self._registers.delete(name)


def state(word: DeploymentState) -> bytes:
    """As the scheduler tells it."""
    return ExposedState(service=ServiceName("web"), state=word, last_transition=AT).encode()


async def test_a_slow_answer_does_not_undo_what_was_told_meanwhile() -> None:
    async with open_bus(BusSettings(url="memory://"), name="test") as bus:
        registers = SlowRegisters(bus.registers)
        states = ExposedStates(registers, bus.live)
        listening = asyncio.create_task(states.run())
        await bus.registers.put(state_register("web"), state(DeploymentState.PENDING))
        asking = asyncio.create_task(states.get("web"))
        await registers.asked.wait()

        await bus.live.publish(state_subject("web"), state(DeploymentState.READY))
        for _ in range(10):
            await asyncio.sleep(0)  # it hears
        registers.answering.set()

        words = {known.state if known else None for known in (await asking, await states.get("web"))}
        assert words == {DeploymentState.READY}
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
