"""What a removed Service left open is ended, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.gateway.catalogue.platforms import definition
from tests.unit.gateway.v1.conftest import Gateway
from tidemill_common.contracts.invocation import Change
from tidemill_gateway.removals import Removals


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway itself looks much later than the tests do."""
    monkeypatch.setattr("tidemill_gateway.removals._INTERVAL_SECONDS", 3600.0)


async def phase_of(gateway: Gateway, invocation: str) -> tuple[str, str | None]:
    """Phase and reason, once it has ended or the patience is over."""
    row = await gateway.deps.queries.await_ended(invocation)
    return row.phase, row.reason


async def test_open_invocations_of_a_removed_service_are_cancelled_with_the_reason(gateway: Gateway) -> None:
    pending, running = await gateway.job(), await gateway.job()
    await gateway.tell(pending, Change.REQUESTED)
    await gateway.tell(running, Change.REQUESTED)
    await gateway.tell(running, Change.STARTED)
    await gateway.deps.queries.await_known(running)
    await gateway.platform.catalogue.remove("thumb", who="oscar")

    assert await Removals.of(gateway.deps).end_orphans() == 2

    assert await phase_of(gateway, pending) == ("Cancelled", "service-removed")
    assert await phase_of(gateway, running) == ("Cancelled", "service-removed")
    assert await Removals.of(gateway.deps).end_orphans() == 0


async def test_open_invocations_of_a_service_that_is_there_are_left_alone(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED, at=datetime.now(UTC))
    await gateway.deps.queries.await_known(invocation)
    await gateway.platform.catalogue.update(definition("thumb") | {"cpu": "0.4"}, who="oscar")

    assert await Removals.of(gateway.deps).end_orphans() == 0
    assert (await gateway.deps.queries.get(invocation)).phase == "Pending"


async def test_what_seems_older_than_a_service_that_was_never_removed_is_its_own(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED, at=datetime.now(UTC) - timedelta(hours=1))
    await gateway.deps.queries.await_known(invocation)

    assert await Removals.of(gateway.deps).end_orphans() == 0
    assert (await gateway.deps.queries.get(invocation)).phase == "Pending"


async def test_a_service_defined_anew_does_not_inherit_what_was_open(gateway: Gateway) -> None:
    invocation = await gateway.job()
    await gateway.tell(invocation, Change.REQUESTED)
    await gateway.deps.queries.await_known(invocation)
    await gateway.platform.catalogue.remove("thumb", who="oscar")
    await gateway.platform.catalogue.create(definition("thumb"), who="oscar")

    assert await Removals.of(gateway.deps).end_orphans() == 1
    assert await phase_of(gateway, invocation) == ("Cancelled", "service-removed")
