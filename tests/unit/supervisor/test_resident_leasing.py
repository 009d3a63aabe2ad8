"""How many Leases a Worker may hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.supervisor.builders import service
from tests.unit.supervisor.surroundings import World, open_world
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.leasing import leases_ahead, within_reuse

SERVE = "#!/usr/bin/env python3\nfrom tidemill_resident import serve\nserve(lambda request: None)\n"


@pytest.mark.parametrize(
    ("mean_seconds", "slots", "expected"),
    [(None, 4, 0), (10.0, 1, 0), (0.06, 1, 0), (0.02, 1, 2), (0.02, 3, 6), (0.0001, 1, 64), (0.0, 2, 128)],
)
def test_only_short_invocations_are_leased_ahead(mean_seconds: float | None, slots: int, expected: int) -> None:
    assert leases_ahead(mean_seconds, slots) == expected


@pytest.mark.parametrize(("held", "left", "expected"), [(3, None, 65), (3, 2, 5), (3, 0, 3), (0, 100, 65)])
def test_a_worker_never_holds_more_than_it_may_still_take(held: int, left: int | None, expected: int) -> None:
    assert within_reuse(65, held=held, left=left) == expected


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, resident=True) as made:
        yield made


def definition(world: World, **fields: object) -> Definition:
    return Definition(service=service(SERVE, **fields), revision=1, secrets={}, stores=world.stores)


@pytest.fixture
def _each_takes_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock that is looked at before and after each; a second the first one, which includes the time to load."""
    looks = chain([0.0], count(1.0, 0.001))
    monkeypatch.setattr("tidemill_supervisor.residents.time", SimpleNamespace(monotonic=lambda: next(looks)))


@pytest.mark.usefixtures("_each_takes_a_millisecond")
async def test_nothing_is_leased_ahead_before_the_first_has_been_handled(world: World) -> None:
    assert world.provision.allowed(definition(world, resident=True)) == 1
    await world.call(SERVE)
    assert world.provision.allowed(definition(world, resident=True)) == 1
    for _ in range(20):
        await world.call(SERVE)
    assert world.provision.allowed(definition(world, resident=True)) > 1


@pytest.mark.usefixtures("_each_takes_a_millisecond")
async def test_nothing_is_leased_ahead_beside_one_that_a_worker_was_lost_with(world: World) -> None:
    for _ in range(20):
        await world.call(SERVE)
    resident = definition(world, resident=True)
    lease = await world.lease()
    await lease.release()
    again = await world.next_lease()
    assert again.lost == 1
    attempt = world.attempt(again, SERVE)
    assert world.provision.allowed(resident) == 1
    await attempt.run()
    world.provision.ended(again)
    assert world.provision.allowed(resident) > 1


async def test_a_batch_service_holds_one_batch_a_slot(world: World) -> None:
    assert world.provision.allowed(definition(world, batch={"size": 20})) == 20
