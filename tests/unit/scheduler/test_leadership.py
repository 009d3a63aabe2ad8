"""One leads; nobody acts on a lease that others may have taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tidemill_common.bus import Register
from tidemill_common.errors import ConflictError, UnavailableError
from tidemill_scheduler.leadership import REGISTER, LeaderLease


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeRegisters:
    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    is_down: bool = False
    loses_answers: bool = False

    async def get(self, name: str) -> Register | None:
        self._answer()
        found = self.values.get(name)
        return None if found is None else Register(value=found[0], revision=found[1], time=datetime.now(UTC))

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        self._answer()
        current = self.values.get(name, (b"", 0))[1]
        if revision is not None and revision != current:
            raise ConflictError(name)
        self.values[name] = (value, current + 1)
        if self.loses_answers:
            raise UnavailableError("no answer")
        return current + 1

    async def delete(self, name: str) -> None:
        self.values.pop(name, None)

    def _answer(self) -> None:
        if self.is_down:
            raise UnavailableError("no bus")


def lease(registers: FakeRegisters, holder: str, clock: Clock) -> LeaderLease:
    return LeaderLease(registers, holder=holder, lease=timedelta(seconds=3), renew=timedelta(seconds=1), clock=clock)


async def test_the_first_leads_and_the_second_waits() -> None:
    registers, clock = FakeRegisters(), Clock()
    first, second = lease(registers, "first", clock), lease(registers, "second", clock)

    for _ in range(10):
        await first.step()
        await second.step()
        clock.now += 1

    assert (first.is_held, second.is_held) == (True, False)


async def test_a_silent_leader_is_replaced_after_the_lease_time_and_not_before() -> None:
    registers, clock = FakeRegisters(), Clock()
    first, second = lease(registers, "first", clock), lease(registers, "second", clock)
    await first.step()
    await second.step()

    clock.now = 2.9
    await second.step()
    held_early = second.is_held
    clock.now = 3.0
    await second.step()

    assert (held_early, second.is_held) == (False, True)


async def test_a_leader_without_bus_stops_before_another_may_start() -> None:
    registers, clock = FakeRegisters(), Clock()
    first, second = lease(registers, "first", clock), lease(registers, "second", clock)
    await first.step()
    await second.step()  # counts from 0, the earliest possible

    for tick in range(31):
        clock.now = tick / 10
        registers.is_down = True
        await first.step()
        registers.is_down = False
        await second.step()
        assert not (first.is_held and second.is_held)

    assert second.is_held


async def test_a_released_lease_is_taken_at_once() -> None:
    registers, clock = FakeRegisters(), Clock()
    first, second = lease(registers, "first", clock), lease(registers, "second", clock)
    await first.step()
    await second.step()

    await first.release()
    await second.step()

    assert (first.is_held, second.is_held) == (False, True)


async def test_who_was_replaced_does_not_lead() -> None:
    registers, clock = FakeRegisters(), Clock()
    first = lease(registers, "first", clock)
    await first.step()
    registers.values[REGISTER] = (b'{"holder": "second"}', 99)

    await first.step()

    assert not first.is_held


async def test_a_renewal_whose_answer_got_lost_costs_nothing() -> None:
    registers, clock = FakeRegisters(), Clock()
    first = lease(registers, "first", clock)
    await first.step()
    registers.loses_answers = True
    await first.step()
    registers.loses_answers = False

    await first.step()  # finds another revision
    await first.step()  # which is its own

    assert first.is_held
