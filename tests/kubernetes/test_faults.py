"""Parts of a cluster are killed while files flow through it: each output is there once, and causes are named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest

from tests.chaos.once import (
    FIRST,
    SECOND,
    expected,
    is_settled,
    outputs,
    service,
    upload,
    verify_events,
    verify_runs,
)
from tests.embedded import names
from tests.kubernetes import faults
from tests.kubernetes.faults import Fault, Stage
from tests.kubernetes.kubectl import Cluster
from tests.kubernetes.lifecycle import Lifecycle
from tests.kubernetes.release import Release, release
from tests.kubernetes.testbed import Testbed, own_testbed
from tests.scenarios.target import fresh
from tidemill_common.contracts.invocation import TERMINAL, Change, InvocationChanged, Reason

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

FILES: Final = int(os.environ.get("TIDEMILL_CHAOS_FILES", "300"))
GREEDY: Final = 3
"""So many of them need too much memory at first."""
PACE: Final = 8.0
"""Files a second at most."""
LANES: Final = 4
GAP: Final = 1.5
"""Seconds between two faults."""
_EAT: Final = 'x=xxxxxxxxxxxxxxxx; while :; do x="$x$x"; done'
_TASTE: Final = f"""case $TIDEMILL_ATTEMPT$INPUT_FILE_PATH in 1*/greedy*) {_EAT} ;; esac
sleep 0.2
"""


@pytest.fixture(scope="module")
def platform(kubernetes: Cluster, helm: str) -> Iterator[Release]:
    """A release of its own with short leases, but longer than it takes to tell a loss; Workers end soon."""
    workers = {"settings": {"termination_grace": "PT20S", "workspace_size": "16Mi"}}
    with release(kubernetes, helm, name="faults", bus={"lease": "PT15S"}, workers=workers) as installed:
        installed.target  # noqa: B018 - opens its ports
        yield installed


@pytest.fixture(scope="module")
def lifecycle(platform: Release) -> Lifecycle:
    return Lifecycle(platform)


def pipeline(made: Release, bucket: str) -> Stage:
    """Two Services, one after the other."""
    first, second = f"{bucket}-first", f"{bucket}-second"
    for name, script, source, target in ((first, FIRST, "in", "mid"), (second, SECOND, "mid", "out")):
        tasted = script.replace("set -e\n", "set -e\n" + _TASTE)
        made.target.apply(**service(name, tasted, f"{bucket}/{source}", f"{bucket}/{target}"))
    return Stage(made, (first, second))


async def flow(stage: Stage, bucket: str, wanted: Sequence[str], struck: Sequence[Fault]) -> None:
    """Files go in while faults happen; returns once nothing waits or runs."""
    target = stage.release.target
    async with target.store() as store, asyncio.TaskGroup() as group:
        for lane in range(LANES):
            group.create_task(upload(store, bucket, wanted[lane::LANES], pause=LANES / PACE))
        for fault in struck:
            await asyncio.sleep(GAP)
            await asyncio.to_thread(fault, stage)
    await asyncio.to_thread(
        target.wait,
        lambda: is_settled(target, len(wanted), *stage.services),
        "all is done",
        show=stage.release.state,
        every=1,
    )


def file_names() -> list[str]:
    """Those of the greedy are spread among the others."""
    found = list(names(FILES))
    for number in range(GREEDY):
        index = (number + 1) * len(found) // (GREEDY + 1)
        found[index] = f"greedy-{found[index]}"
    return found


async def verify_outputs(made: Release, bucket: str, wanted: Sequence[str]) -> None:
    """Every output is there, with the right content, and nothing else; none ever had another content."""
    async with made.target.store() as store:
        assert await outputs(store, f"{bucket}/out/") == expected(wanted)
    await asyncio.to_thread(verify_events, made.target, bucket)


def verify_reasons(stage: Stage, records: Sequence[InvocationChanged]) -> None:
    """Each Attempt that failed did so by what was done, and says so; each Invocation ended once."""
    ends = [record.invocation_id for record in records if record.change in TERMINAL]
    assert len(ends) == len(set(ends))
    for record in records:
        if record.change is Change.RETRIED and record.reason not in {Reason.OUT_OF_MEMORY, *stage.allowed}:
            words = stage.struck.get(record.worker or "", ())
            told = record.model_dump_json(exclude_none=True)
            assert any(word in (record.message or "") for word in words), f"{told}\nstruck: {stage.struck}"


def verify_no_worker_stays(stage: Stage) -> None:
    """Those that were killed and those that are idle end, and leave no Job that waits for ever."""
    stage.release.target.wait(lambda: not stage.active(), "no Worker runs", show=stage.release.state, every=1)


async def try_faults(made: Release, lifecycle: Lifecycle, struck: Sequence[Fault]) -> None:
    """The promise, while these happen one after the other."""
    bucket, wanted = fresh("faults", "flow"), file_names()
    stage = await asyncio.to_thread(pipeline, made, bucket)
    await flow(stage, bucket, wanted, struck)
    await verify_outputs(made, bucket, wanted)
    for name in stage.services:
        await asyncio.to_thread(verify_runs, made.target, name, len(wanted))
    records = [record for name in stage.services for record in await lifecycle.of(name)]
    verify_reasons(stage, records)
    assert any(record.reason is Reason.OUT_OF_MEMORY for record in records)
    await asyncio.to_thread(verify_no_worker_stays, stage)
    for name in stage.services:
        await asyncio.to_thread(made.target.remove, name)


async def test_every_file_has_its_outputs_once_although_pods_go(platform: Release, lifecycle: Lifecycle) -> None:
    struck = (
        faults.worker_deleted_at_once,
        faults.worker_deleted,
        faults.node_drained,
        faults.worker_forgotten,
        faults.scheduler_deleted,
    )
    await try_faults(platform, lifecycle, struck)


async def test_every_file_has_its_outputs_once_although_parts_of_the_cluster_are_killed(
    platform: Release, lifecycle: Lifecycle
) -> None:
    testbed = own_testbed()
    parts = [faults.part_killed(testbed, part) for part in ("kubelet", "containerd", "apiserver", "etcd")]
    containers = (faults.supervisor_killed, faults.user_code_killed, faults.scheduler_killed)
    await try_faults(platform, lifecycle, [*(make(testbed) for make in containers), *parts])


async def test_the_checks_see_an_output_that_is_lost_changed_or_made_twice(platform: Release) -> None:
    bucket, wanted = fresh("faults", "seen"), names(3)
    stage = await asyncio.to_thread(pipeline, platform, bucket)
    await flow(stage, bucket, wanted, ())
    await verify_outputs(platform, bucket, wanted)
    second = stage.services[1]
    await asyncio.to_thread(verify_runs, platform.target, second, len(wanted))

    with pytest.raises(AssertionError, match="file-00003"):
        await verify_outputs(platform, bucket, names(4))
    row, *_ = await asyncio.to_thread(platform.target.invocations, second)
    again = await asyncio.to_thread(platform.target.patiently, "POST", f"/v1/invocations/{row['id']}/retry")
    await asyncio.to_thread(platform.target.ended, again.json()["id"])
    with pytest.raises(AssertionError, match=row["input"]["path"]):
        await asyncio.to_thread(verify_runs, platform.target, second, len(wanted))
    await asyncio.to_thread(platform.target.put, f"{bucket}/mid/{wanted[0]}", b"another digest")
    await asyncio.to_thread(platform.target.wait, lambda: is_settled(platform.target, 5, second), "it has run")
    with pytest.raises(AssertionError, match=wanted[0]):
        await verify_outputs(platform, bucket, wanted)
    with pytest.raises(AssertionError, match=f"{bucket}/out/{wanted[0]}"):
        await asyncio.to_thread(verify_events, platform.target, bucket)
    for name in stage.services:
        await asyncio.to_thread(platform.target.remove, name)


_SLEEP: Final = "sleep 200"
_FILL: Final = "dd if=/dev/zero of=big bs=1M count=40; sleep 200"  # a node looks once a minute, unless set otherwise


def left_alone(stage: Stage) -> None:
    """What user code does is enough."""


@pytest.mark.parametrize(
    ("does", "fault", "reason", "words"),
    [
        (_SLEEP, faults.worker_deleted_at_once, Reason.WORKER_LOST, "PodDeleted"),
        (_SLEEP, faults.worker_deleted, Reason.WORKER_LOST, "PodDeleted"),
        (_SLEEP, faults.node_drained, Reason.EVICTED, "EvictionByEvictionAPI"),
        (_FILL, left_alone, Reason.EVICTED, "Usage of EmptyDir volume"),
        (_EAT, left_alone, Reason.OUT_OF_MEMORY, "memory"),
    ],
    ids=["killed", "deleted", "drained", "evicted", "greedy"],
)
async def test_an_attempt_that_was_lost_names_the_cause(
    platform: Release, lifecycle: Lifecycle, does: str, fault: Fault, reason: Reason, words: str
) -> None:
    lost = await first_loss(platform, lifecycle, does, fault)
    assert (lost.reason, words in (lost.message or "")) == (reason, True), lost


@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (faults.supervisor_killed, Reason.WORKER_LOST, "signal 9"),
        (faults.user_code_killed, Reason.CONTAINER_ENDED, "exit code 137"),
    ],
    ids=["supervisor", "user"],
)
async def test_an_attempt_whose_container_was_killed_names_it(
    platform: Release, lifecycle: Lifecycle, make: Callable[[Testbed], Fault], reason: Reason, words: str
) -> None:
    lost = await first_loss(platform, lifecycle, _SLEEP, make(own_testbed()))
    assert (lost.reason, words in (lost.message or "")) == (reason, True), lost


async def first_loss(made: Release, lifecycle: Lifecycle, does: str, fault: Fault) -> InvocationChanged:
    """What is told of an Attempt that something happens to; the next one succeeds."""
    target, name = made.target, fresh("faults", "cause")
    script = f'[ "$TIDEMILL_ATTEMPT" -gt 1 ] || {{ {does}; }}\n'
    token = await asyncio.to_thread(target.apply, name, script, retry={"attempts": 5, "backoff": "0.2s"})
    identity = await asyncio.to_thread(target.job, name, token)
    await asyncio.to_thread(target.wait, lambda: target.invocation(identity).get("attempts"), "it runs")
    await asyncio.to_thread(fault, Stage(made, (name,)))
    row = await asyncio.to_thread(target.ended, identity)
    assert (row["phase"], row["attempts"]) == ("Succeeded", 2), row
    await asyncio.to_thread(target.remove, name)
    records = await lifecycle.of(name)
    found = [record for record in records if record.change is Change.RETRIED]
    assert len(found) == 1, [record.model_dump_json(exclude_none=True) for record in records]
    return found[0]
