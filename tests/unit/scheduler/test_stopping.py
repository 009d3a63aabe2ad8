"""The end of a platform: Workers drain, whatever becomes of the exposed Services."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from tests.unit.scheduler.planned import pool
from tests.unit.scheduler.rounds import Host
from tests.unit.scheduler.test_process_launcher import SERVICE, SPEC
from tidemill_common.contracts.contract import WorkerId
from tidemill_common.errors import UnavailableError
from tidemill_scheduler.app import stop_all
from tidemill_scheduler.exposing.ports import Exposer


class SlowHost(Host):
    """Its Workers take a moment to be asked."""

    async def stop(self, worker: WorkerId) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        await super().stop(worker)


class AwayExposer:
    """What runs the instances does not answer."""

    async def stop_all(self) -> None:
        raise UnavailableError("Docker does not answer")


async def test_workers_end_in_order_although_instances_cannot_be_stopped() -> None:
    host = SlowHost(pool(1))
    await host.start(SPEC, SERVICE)

    with pytest.raises(UnavailableError, match="Docker"):
        await stop_all(host, cast(Exposer, AwayExposer()), timeout=timedelta(seconds=30))

    assert host.workers() == []
