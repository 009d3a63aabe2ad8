"""Whoever bounds a Worker's life in the cluster, its Invocation tells that this ended it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kubernetes.world import USER_IMAGE, World, world
from tests.servers import Running
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

_SMALL: Final[dict[str, Any]] = {"image": USER_IMAGE, "cpu": "0.1", "memory": "64Mi"}
_LONG_AT_FIRST: Final = '#!/bin/sh\n[ "$TIDEMILL_ATTEMPT" -gt 1 ] || sleep 200\n'
_GRACE: Final = "PT20S"
"""Half of it is a drain, in which the cause has the time to be told."""


@pytest.fixture
async def cluster(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats, seaweed, tmp_path) as made:
        yield made


async def test_an_attempt_names_the_deadline_that_the_settings_give_a_worker(cluster: World) -> None:
    cluster.start(KUBERNETES__DEADLINE="PT30S", KUBERNETES__TERMINATION_GRACE=_GRACE)  # a pod's start counts as well
    invocation = await _running(cluster)
    lost = await _loss(cluster, invocation)
    assert lost.reason is Reason.EVICTED, lost
    assert (lost.message or "").startswith("DeadlineExceeded: Job was active longer than")


async def test_an_attempt_names_the_deadline_that_somebody_gave_its_pod(cluster: World) -> None:
    cluster.start(KUBERNETES__TERMINATION_GRACE=_GRACE)
    invocation = await _running(cluster)
    (pod,) = await cluster.until(cluster.running_pods, "its pod is seen to run")
    await _bound(cluster, pod["metadata"]["name"], seconds=5)
    lost = await _loss(cluster, invocation)
    assert lost.reason is Reason.EVICTED, lost
    assert lost.message == "DeadlineExceeded: Pod was active on the node longer than the specified deadline"


async def _running(cluster: World) -> InvocationId:
    """An Invocation whose first Attempt runs for long."""
    await cluster.platform.define(_LONG_AT_FIRST, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    return invocation.id


async def _bound(cluster: World, pod: str, *, seconds: int) -> None:
    """What `kubectl edit` may do to a pod that runs."""
    found = await cluster.api.get(f"{cluster.pods}/{pod}")
    found["spec"]["activeDeadlineSeconds"] = seconds
    del found["metadata"]["resourceVersion"]  # whatever its node wrote in between
    await cluster.api.replace(f"{cluster.pods}/{pod}", found)


async def _loss(cluster: World, invocation: InvocationId) -> InvocationChanged:
    """What is told of the first Attempt; the second one succeeds."""
    changes = await cluster.changes(invocation)
    kinds = [(record.change, record.attempt) for record in changes]
    assert kinds == [(Change.STARTED, 1), (Change.RETRIED, 1), (Change.STARTED, 2), (Change.SUCCEEDED, 2)]
    return changes[1]
