"""Workers that wait for Kueue: a real one admits their Jobs, says why not, and takes their room back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kubernetes.kueue import GROUP, apply_all, kueue
from tests.kubernetes.world import KUBECONFIG, USER_IMAGE, World, world
from tests.servers import Running
from tidemill_common.contracts.invocation import Change, Reason

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "kubernetes.md"
_SMALL: Final[dict[str, Any]] = {"owner": "ann", "image": USER_IMAGE, "cpu": "0.1", "memory": "64Mi"}


def documented_queues() -> str:
    """What docs/kubernetes.md tells an operator to apply, for an owner of these tests."""
    text = _DOCUMENT.read_text().partition("<!-- queues -->")[2]
    return text.partition("```yaml\n")[2].partition("```")[0].replace("OWNER", "ann")


@pytest.fixture
async def cluster(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[World]:
    """With Kueue, the documented queues, and a scheduler with no more rights than it says."""
    async with world(nats, seaweed, tmp_path) as made, kueue(made.api, KUBECONFIG, made.namespace, tmp_path):
        await apply_all(made.api, documented_queues())
        await made.give_account("scheduler")
        made.start(KUBERNETES__KUEUE="true", KUBERNETES__TERMINATION_GRACE="PT20S")
        yield made
        made.end()  # or it would make Jobs while Kueue's things are cleared away


async def test_a_workers_job_runs_once_its_queue_admits_it_and_the_queue_goes_with_the_service(cluster: World) -> None:
    await cluster.platform.define("#!/bin/sh\necho done\n", **_SMALL)
    invocation = await cluster.platform.call(b"x")
    ended = await cluster.ended(invocation.id)
    assert ended.change is Change.SUCCEEDED
    name = f"oscar-lq-{cluster.platform.name}"
    queue = await cluster.api.get(f"{GROUP}/namespaces/{cluster.namespace}/localqueues/{name}")
    assert queue["spec"]["clusterQueue"] == "oscar-cq-ann"
    workloads = (await cluster.api.get(f"{GROUP}/namespaces/{cluster.namespace}/workloads"))["items"]
    assert [workload["spec"]["queueName"] for workload in workloads] == [name]
    await cluster.platform.remove()

    async def is_gone() -> bool:
        return not (await cluster.api.get(f"{GROUP}/namespaces/{cluster.namespace}/localqueues"))["items"]

    await cluster.until(is_gone, "the queue goes with its Service")


async def test_what_its_owner_may_not_have_is_told_in_kueues_words(cluster: World) -> None:
    await cluster.platform.define("#!/bin/sh\n", **_SMALL | {"memory": "3Gi"})
    await cluster.platform.call(b"x")

    async def words() -> str:
        waiting = str((await cluster.status()).get("waiting", ""))
        return waiting if "insufficient" in waiting else ""

    waiting = await cluster.until(words, "Kueue's words")
    assert waiting.startswith("Suspended: couldn't assign flavors")
    assert "memory" in waiting


async def test_room_that_the_queue_takes_back_is_told_and_the_attempt_is_repeated(cluster: World) -> None:
    await cluster.platform.define('#!/bin/sh\n[ "$TIDEMILL_ATTEMPT" -gt 1 ] || sleep 200\n', **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    await _stop(cluster, "HoldAndDrain")
    lost = await cluster.changed(invocation.id, Change.RETRIED)
    assert (lost.reason, lost.message) == (Reason.EVICTED, "Suspended: its queue took its room back")
    await _stop(cluster, "None")
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 2)


async def _stop(cluster: World, policy: str) -> None:
    """What an operator does with a ClusterQueue."""
    path = f"{GROUP}/clusterqueues/oscar-cq-ann"
    body = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "ClusterQueue", "spec": {"stopPolicy": policy}}
    await cluster.api.apply(path, body | {"metadata": {"name": "oscar-cq-ann"}}, manager="operator")
