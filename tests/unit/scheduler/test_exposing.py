"""Definitions and wishes become instances, and what became of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tidemill_common.bus import Bus, Live, Register, Registers
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import (
    LOGS,
    DeploymentState,
    ExposedState,
    LogLine,
    LogsAnswered,
    LogsAsked,
    Wish,
    state_register,
    wish_register,
    wish_subject,
)
from tidemill_common.contracts.service import Expose, Service, ServiceDefined
from tidemill_common.errors import InvalidInputError, UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_scheduler.catalogue import Catalogue
from tidemill_scheduler.exposing.domain import NOTHING, Exposure, Observation
from tidemill_scheduler.exposing.exposing import Exposing

WEB = ServiceName("web")


@dataclass
class FakeExposer:
    """Runs nothing, and remembers what it was told."""

    running: dict[ServiceName, Exposure] = field(default_factory=dict)
    seen: dict[ServiceName, Observation] = field(default_factory=dict)
    failure: Exception | None = None
    ensured: list[Exposure] = field(default_factory=list)

    async def adopt(self) -> None:
        """Nothing is there."""

    async def ensure(self, exposure: Exposure) -> None:
        """Remember it."""
        if self.failure is not None:
            raise self.failure
        self.ensured.append(exposure)
        if exposure.wish.stopped:
            self.running.pop(exposure.name, None)
        else:
            self.running[exposure.name] = exposure

    async def remove(self, service: ServiceName) -> None:
        """Forget it."""
        if self.failure is not None:
            raise self.failure
        self.running.pop(service, None)

    def services(self) -> Collection[ServiceName]:
        """Those that run."""
        return set(self.running)

    def observe(self, service: ServiceName) -> Observation:
        """What a test says."""
        return self.seen.get(service, NOTHING)

    async def logs(self, service: ServiceName, lines: int) -> Sequence[LogLine]:
        """One line."""
        return [LogLine(text=f"{service} says {lines}")]

    async def release(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def stop_all(self) -> None:
        """Nothing to do."""


@dataclass
class Leading:
    """Leads when told so."""

    is_held: bool = True


@dataclass
class InterruptedRegisters:
    """Something else happens between a look at a wish and its answer."""

    real: Registers
    meanwhile: Callable[[], Awaitable[None]] | None = None
    is_away: bool = False

    async def get(self, name: str) -> Register | None:
        """What was there before the other thing happened."""
        found = await self.real.get(name)
        if self.meanwhile is not None and name == wish_register(WEB):
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return found

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        """As it is, unless the bus is away."""
        if self.is_away:
            raise UnavailableError("no connection to the bus")
        return await self.real.put(name, value, revision=revision)

    async def delete(self, name: str) -> None:
        """As it is."""
        await self.real.delete(name)


@dataclass
class BrokenOnce:
    """A bus that is away when the first message is to be told."""

    real: Live
    is_away: bool = True

    async def publish(self, subject: str, body: bytes) -> None:
        """Refuse the first."""
        if self.is_away:
            self.is_away = False
            raise UnavailableError("no connection to the bus")
        await self.real.publish(subject, body)

    def subscribe(self, subject: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """As it is."""
        return self.real.subscribe(subject)


@dataclass
class World:
    """Everything around the use case."""

    bus: Bus
    exposer: FakeExposer = field(default_factory=FakeExposer)
    catalogue: Catalogue = field(default_factory=Catalogue)
    now: float = 0.0

    def exposing(
        self, *, registers: Registers | None = None, live: Live | None = None, woken: asyncio.Event | None = None
    ) -> Exposing:
        """A scheduler that has just begun to lead."""
        return Exposing(
            exposer=self.exposer,
            definitions=self.catalogue,
            leader=Leading(),
            registers=registers or self.bus.registers,
            live=live or self.bus.live,
            woken=woken,
            clock=lambda: self.now,
        )

    def define(self, *, revision: int = 1, exposed: bool = True, removed: bool = False) -> None:
        """The Service web."""
        expose = Expose(api_port=(8000,)) if exposed else None
        service = None if removed else Service(name=WEB, image="web:1", script="serve", expose=expose)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        self.catalogue.define(ServiceDefined(name=WEB, revision=revision, at=at, service=service))

    async def told(self) -> ExposedState | None:
        """What the gateway would read."""
        register = await self.bus.registers.get(state_register(WEB))
        return ExposedState.decode(register.value) if register is not None and register.value else None


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """With the Service web, not exposed yet by anybody."""
    async with open_bus(BusSettings(url="memory://"), name="test") as bus:
        world = World(bus)
        world.define()
        yield world


async def test_an_exposed_service_runs_and_its_state_is_told(world: World) -> None:
    exposing = world.exposing()
    await exposing.round()
    state = await world.told()
    assert state is not None
    assert (state.state, state.revision) == (DeploymentState.PENDING, 1)
    world.exposer.seen[WEB] = Observation(urls=("http://127.0.0.1:8000",), active=1, present=1)
    await exposing.round()
    state = await world.told()
    assert state is not None
    assert (state.state, state.urls) == (DeploymentState.READY, ("http://127.0.0.1:8000",))


async def test_a_service_that_is_not_exposed_is_left_alone(world: World) -> None:
    world.define(exposed=False)
    await world.exposing().round()
    assert world.exposer.ensured == []
    assert await world.told() is None


@pytest.mark.parametrize("removed", [True, False])
async def test_a_service_that_is_exposed_no_more_is_removed_with_its_wish(world: World, *, removed: bool) -> None:
    exposing = world.exposing()
    await world.bus.registers.put(wish_register(WEB), Wish(stopped=False).encode())
    await exposing.round()
    world.define(revision=2, removed=removed, exposed=False)
    await exposing.round()
    assert world.exposer.running == {}
    assert await world.told() is None
    wish = await world.bus.registers.get(wish_register(WEB))
    assert wish is not None
    assert wish.value == b""


async def test_what_an_earlier_scheduler_left_of_a_removed_service_is_removed(world: World) -> None:
    old = world.exposing()
    await old.round()
    world.define(revision=2, removed=True)
    await world.exposing().round()
    assert world.exposer.running == {}


async def test_a_wish_is_followed_and_its_revision_told(world: World) -> None:
    exposing = world.exposing()
    await exposing.round()
    revision = await world.bus.registers.put(wish_register(WEB), Wish(stopped=True).encode())
    world.now += 60
    await exposing.round()
    assert world.exposer.running == {}
    state = await world.told()
    assert state is not None
    assert (state.state, state.wish) == (DeploymentState.STOPPED, revision)


async def test_a_platform_that_refuses_is_told_as_the_reason(world: World) -> None:
    world.exposer.failure = InvalidInputError("default_command needs the image")
    exposing = world.exposing()
    await exposing.round()
    state = await world.told()
    assert state is not None
    assert (state.state, state.reason) == (DeploymentState.FAILED, "default_command needs the image")
    world.exposer.failure = None
    await exposing.round()
    state = await world.told()
    assert state is not None
    assert (state.state, state.reason) == (DeploymentState.PENDING, "")


async def test_a_removal_that_fails_is_tried_again(world: World) -> None:
    exposing = world.exposing()
    await exposing.round()
    world.define(revision=2, removed=True)
    world.exposer.failure = UnavailableError("away")
    await exposing.round()
    assert world.exposer.running
    world.exposer.failure = None
    await exposing.round()
    assert not world.exposer.running


async def test_a_takeover_keeps_the_time_of_the_last_transition(world: World) -> None:
    world.exposer.seen[WEB] = Observation(active=1, present=1)
    await world.exposing().round()
    first = await world.told()
    await world.exposing().round()
    assert await world.told() == first


@asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """What the scheduler does at the same time."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)  # it listens
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_wish_that_is_told_while_the_last_one_is_read_is_followed(world: World) -> None:
    registers, woken = InterruptedRegisters(world.bus.registers), asyncio.Event()
    exposing = world.exposing(registers=registers, woken=woken)

    async def stop() -> None:
        await world.bus.registers.put(wish_register(WEB), Wish(stopped=True).encode())
        await world.bus.live.publish(wish_subject(WEB), b"")
        await woken.wait()

    registers.meanwhile = stop
    async with beside(exposing.follow_wishes()):
        await exposing.round()
        assert world.exposer.running
        await exposing.round()
    assert world.exposer.running == {}


async def test_a_service_that_is_removed_while_its_wish_is_read_is_removed_by_the_next_round(world: World) -> None:
    registers = InterruptedRegisters(world.bus.registers)
    exposing = world.exposing(registers=registers)

    async def remove() -> None:
        world.define(revision=2, removed=True)

    registers.meanwhile = remove
    await exposing.round()
    await exposing.round()
    assert world.exposer.running == {}


async def test_a_service_that_was_removed_leaves_no_wish_though_the_bus_was_away(world: World) -> None:
    await world.exposing().round()  # of an earlier scheduler
    await world.bus.registers.put(wish_register(WEB), Wish(stopped=True).encode())
    world.define(revision=2, removed=True)
    registers = InterruptedRegisters(world.bus.registers, is_away=True)
    exposing = world.exposing(registers=registers)
    with pytest.raises(UnavailableError):
        await exposing.round()
    registers.is_away = False
    await exposing.round()
    wish = await world.bus.registers.get(wish_register(WEB))
    assert wish is not None
    assert wish.value == b""
    assert world.exposer.running == {}


async def test_an_answer_that_the_bus_does_not_take_costs_that_answer_alone(world: World) -> None:
    exposing = world.exposing(live=BrokenOnce(world.bus.live))
    await exposing._lead()
    asked = LogsAsked(service=WEB, lines=3, reply_to="live.answer")
    async with beside(exposing.answer_logs()), world.bus.live.subscribe("live.answer") as answers:
        for _ in range(2):
            await world.bus.live.publish(LOGS, asked.encode())
        _, body = await anext(answers)
    assert [line.text for line in LogsAnswered.decode(body).lines] == ["web says 3"]
