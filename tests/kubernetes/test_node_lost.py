"""A node stops answering: what ran there is told with the cluster's words, and what still runs there goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kubernetes.testbed import Testbed, own_testbed
from tests.kubernetes.world import USER_IMAGE, World, world
from tests.servers import Running
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import CHANGED, TERMINAL, Change, InvocationChanged, Reason

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(500)]

_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_GIVEN_UP: Final = 120.0
"""Seconds after which the cluster has given a silent node up: 50 by default, and the time between two looks."""
_SOON: Final = 20.0
"""Seconds from the cluster's verdict to ours, at most: the other Worker, which could tell less, is busy for longer."""
_SERVICE: Final[dict[str, Any]] = {
    "image": USER_IMAGE,
    "cpu": "0.1",
    "memory": "64Mi",
    "input": [{"storage_provider": "minio.default", "path": "data/in"}],
    "output": [{"storage_provider": "minio.default", "path": "data/out"}],
}
_LONG: Final = """#!/bin/sh
[ "$TIDEMILL_ATTEMPT" -gt 1 ] || sleep 100
cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"
"""


@pytest.fixture
async def cluster(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats, seaweed, tmp_path) as made:
        yield made


async def test_a_worker_that_was_lost_with_its_node_is_told_at_once_and_one_that_is_still_heard_goes_on(
    cluster: World,
) -> None:
    testbed = own_testbed()
    cluster.start(BUS__LEASE="PT10S")
    await cluster.platform.define(_LONG, **_SERVICE)
    lost, kept = [await cluster.platform.upload(f"data/in/{name}", b"1") for name in ("lost", "kept")]
    await asyncio.gather(cluster.started(lost.id), cluster.started(kept.id))
    await cluster.until(lambda: _both_run(cluster), "both pods are seen to run")
    pod = await _pod_of(cluster, lost.id)

    async with without_kubelet(testbed):
        for status in pod["status"]["containerStatuses"]:
            testbed.kill_container(status["containerID"])
        words = await cluster.until(lambda: _verdict(cluster, pod), "the node is given up", seconds=_GIVEN_UP)
        told = await cluster.until(lambda: _loss(cluster, lost.id), "the loss is told", seconds=_SOON)
        assert told.reason is Reason.WORKER_LOST
        assert f"NodeLost: node {pod['spec']['nodeName']}: {words}" in (told.message or "")

    await asyncio.gather(*(cluster.ended(one.id) for one in (lost, kept)))
    first, second = [await _records(cluster, one.id) for one in (lost, kept)]
    changes = [(record.change, record.attempt) for record in first]
    assert changes == [(Change.STARTED, 1), (Change.RETRIED, 1), (Change.STARTED, 2), (Change.SUCCEEDED, 2)]
    assert [(record.change, record.attempt) for record in second] == [(Change.STARTED, 1), (Change.SUCCEEDED, 1)]
    assert sorted(await cluster.platform.objects("data/out/")) == ["data/out/kept", "data/out/lost"]
    await cluster.until(lambda: _nothing_waits(cluster), "the account balances")
    assert "over-limit" not in cluster.log.read_text()  # nobody drains for the room that went with the node


@contextlib.asynccontextmanager
async def without_kubelet(testbed: Testbed) -> AsyncIterator[None]:
    """The node says nothing meanwhile; what runs there goes on."""
    testbed.kill("kubelet")
    try:
        yield
    finally:
        await asyncio.to_thread(testbed.up)


async def _both_run(cluster: World) -> bool:
    return len(await cluster.running_pods()) == 2


async def _pod_of(cluster: World, invocation: InvocationId) -> dict[str, Any]:
    started = next(one for one in await _records(cluster, invocation) if one.change is Change.STARTED)
    pods = await cluster.running_pods()
    return next(dict(pod) for pod in pods if pod["metadata"]["labels"]["tidemill.io/worker"] == started.worker)


async def _verdict(cluster: World, pod: dict[str, Any]) -> str:
    """The cluster's words about the pod's node, once it is tainted; empty until then."""
    node = await cluster.api.get(f"/api/v1/nodes/{pod['spec']['nodeName']}")
    if all(taint["key"] != _UNREACHABLE for taint in node["spec"].get("taints", ())):
        return ""
    return next(str(one["message"]) for one in node["status"]["conditions"] if one["type"] == "Ready")


async def _records(cluster: World, invocation: InvocationId) -> list[InvocationChanged]:
    """All that was told of an Invocation so far."""
    async with cluster.platform.bus.log.read(CHANGED, key=cluster.platform.name) as records:
        return [record.body async for record in records if record.body.invocation_id == invocation]


async def _loss(cluster: World, invocation: InvocationId) -> InvocationChanged | None:
    found = [record for record in await _records(cluster, invocation) if record.change is Change.RETRIED]
    return found[0] if found else None


async def _nothing_waits(cluster: World) -> bool:
    """Every Invocation ended once, and the queue is empty."""
    async with cluster.platform.bus.log.read(CHANGED, key=cluster.platform.name) as records:
        ends = [record.body.invocation_id async for record in records if record.body.change in TERMINAL]
    assert len(ends) == len(set(ends))
    return len(ends) == 2 and await cluster.platform.waiting() == 0
