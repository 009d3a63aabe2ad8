"""Two gateway processes on one PostgreSQL and one bus: what one accepts the other knows, and both tell the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.gateway.test_http import Gateway, call, created, gateway_process, tell
from tests.servers import Running
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.invocation import Change
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.integration
PATIENCE = 60.0


@pytest.fixture(scope="module")
def replicas(
    nats: Running, seaweed: Running, postgresql: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Gateway]]:
    """Both start at the same time on an empty database, so both want to migrate it."""
    folder = tmp_path_factory.mktemp("replicas")
    with (
        gateway_process(folder, nats, seaweed, DATABASE_URL=postgresql) as one,
        gateway_process(folder, nats, seaweed, DATABASE_URL=postgresql) as other,
    ):
        yield one, other


async def same(one: httpx.AsyncClient, other: httpx.AsyncClient, path: str, *, when: str) -> str:
    """What both answer, once `when` is in it and they agree."""
    deadline = time.monotonic() + PATIENCE
    while True:
        texts = [(await client.get(path)).text for client in (one, other)]
        if texts[0] == texts[1] and when in texts[0]:
            return texts[0]
        assert time.monotonic() < deadline, texts
        await asyncio.sleep(0.05)


async def answered(gateway: Gateway, path: str, headers: dict[str, str], *, status: int) -> httpx.Response:
    """A call, once it is answered so: a replica learns of a Service from the bus, a moment after SQL has it."""
    deadline = time.monotonic() + PATIENCE
    while (answer := await call(gateway, path, b"hello", headers)).status_code != status:
        assert time.monotonic() < deadline, (answer.status_code, answer.text)
        await asyncio.sleep(0.05)
    return answer


async def test_replicas_agree_on_services_invocations_and_accounts(replicas: tuple[Gateway, Gateway]) -> None:
    first, second = replicas
    async with first.client() as one, second.client() as other:
        headers = await created(one, "shared")
        await same(one, other, "/system/services/shared", when='"shared"')
        answer = await answered(second, "/job/shared", headers, status=201)
        invocation = answer.headers["tidemill-invocation-id"]
        async with open_bus(BusSettings(url=first.bus_url), name="test") as bus:
            for change in (Change.REQUESTED, Change.STARTED, Change.SUCCEEDED, Change.FAILED):
                await tell(bus, "shared", invocation, change)
        assert "Failed" not in await same(one, other, f"/v1/invocations/{invocation}", when='"Succeeded"')
        accounts = await same(one, other, "/v1/accounts", when='"succeeded":1')
    assert '"requested":1' in accounts


async def test_a_service_updated_by_one_and_removed_by_the_other_is_gone_for_both(
    replicas: tuple[Gateway, Gateway],
) -> None:
    first, second = replicas
    async with first.client() as one, second.client() as other:
        headers = await created(one, "moving")
        definition = {"name": "moving", "image": "busybox", "script": "#!/bin/sh\ntrue\n", "cpu": "0.7"}
        assert (await other.put("/system/services", json=definition)).status_code == 204
        await same(one, other, "/system/services/moving", when='"0.7"')
        assert (await one.get("/v1/services/moving/revisions")).text == (
            await other.get("/v1/services/moving/revisions")
        ).text
        assert (await other.delete("/system/services/moving")).status_code == 204
        for gateway in replicas:
            await answered(gateway, "/job/moving", headers, status=401)
