"""Workers in a real cluster, started by a real scheduler."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.world import USER_IMAGE, World, world
from tests.servers import Running
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]
_SMALL: dict[str, Any] = {
    "image": USER_IMAGE,
    "cpu": "0.1",
    "memory": "64Mi",
    "input": [{"storage_provider": "minio.default", "path": "data/in"}],
    "output": [{"storage_provider": "minio.default", "path": "data/out"}],
}
_COPY = '#!/bin/sh\ncp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"\n'
_IN_NO_SHELL = """#!/bin/sh -e
sh -c 'cat "$INPUT_FILE_PATH"' | env -i PATH=/tidemill-shell tee "$TMP_OUTPUT_DIR/a.txt"
[ ! -e /bin/cat ]
! touch /tidemill-shell/x
"""
_SLOW = "#!/bin/sh\nsleep 8\necho done\n"
_LONG_AT_FIRST = '#!/bin/sh\n[ "$TIDEMILL_ATTEMPT" -gt 1 ] || sleep 200\n'
"""Runs for as long as it takes until something happens to its first Attempt."""


@pytest.fixture
async def cluster(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats, seaweed, tmp_path) as made:
        yield made


def described(record: InvocationChanged) -> str:
    return record.model_dump_json(exclude_none=True)


async def test_files_become_results_in_one_pod_that_ends_when_idle(cluster: World) -> None:
    cluster.start()
    await cluster.platform.define(_COPY, **_SMALL, synchronous={"max_scale": 1})
    invocations = [await cluster.platform.upload(f"data/in/{n}.txt", b"hello") for n in range(3)]
    ended = [await cluster.ended(one.id) for one in invocations]
    assert [record.change for record in ended] == [Change.SUCCEEDED] * 3, described(ended[0])
    assert sorted(await cluster.platform.objects("data/out/")) == [f"data/out/{n}.txt" for n in range(3)]
    assert len({record.worker for record in ended}) == 1
    (job,) = await cluster.until(lambda: _complete(cluster), "the Job is complete")
    assert job["metadata"]["name"] == ended[0].worker
    await cluster.until(lambda: _none_runs(cluster), "the status counts no Worker")


async def test_a_warm_worker_waits_and_a_new_definition_replaces_it_without_ending_what_runs(cluster: World) -> None:
    cluster.start()
    await cluster.platform.define(_SLOW, **_SMALL, synchronous={"min_scale": 1})
    (warm,) = await cluster.until(cluster.running_pods, "a warm pod")
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    await cluster.platform.define("#!/bin/sh\necho new\n", **_SMALL, synchronous={"min_scale": 1})
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 1), described(ended)
    assert warm["metadata"]["labels"]["tidemill.io/worker"] == ended.worker

    async def replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in await cluster.running_pods()}
        return len(names) == 1 and warm["metadata"]["name"] not in names

    await cluster.until(replaced, "one pod of the new definition")


async def test_user_code_that_needs_too_much_memory_is_named_so(cluster: World) -> None:
    cluster.start()
    eat = "#!/bin/sh\nx=aaaaaaaaaaaaaaaa\nwhile :; do x=$x$x; done\n"
    await cluster.platform.define(eat, **_SMALL, retry={"attempts": 2, "backoff": "PT0.1S"})
    invocation = await cluster.platform.call(b"x")
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.reason) == (Change.DEAD, Reason.OUT_OF_MEMORY), described(ended)
    assert ended.attempt == 2
    assert "degraded" not in await cluster.status()


async def test_an_image_that_is_not_there_degrades_the_service_and_burns_no_attempt(cluster: World) -> None:
    cluster.start()
    await cluster.platform.define(_COPY, **_SMALL | {"image": "localhost/nothing:1"})
    invocation = await cluster.platform.call(b"x")
    await cluster.says("waiting", "ErrImagePull: ", "ImagePullBackOff: ")
    await cluster.says("degraded", "localhost/nothing:1")
    assert len(await cluster.jobs_now()) <= 2
    await cluster.platform.define(_COPY, **_SMALL)
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 1), described(ended)


async def test_a_worker_without_a_node_waits_alone_with_the_schedulers_words(cluster: World) -> None:
    cluster.start(POOL__CPU_MILLICORES="64000", POOL__MEMORY_BYTES=str(2**40))
    await cluster.platform.define(_COPY, **_SMALL | {"cpu": "16"})
    for n in range(4):
        await cluster.platform.call(str(n).encode())
    waiting = await cluster.says("waiting", "Insufficient cpu")
    assert waiting.startswith("Unschedulable: ")
    pool_for = await cluster.jobs_now()
    await asyncio.sleep(3)
    assert len(await cluster.jobs_now()) == len(pool_for) <= 4


async def test_a_worker_without_a_node_is_withdrawn_after_its_time(cluster: World) -> None:
    cluster.start(POOL__CPU_MILLICORES="64000", POOL__MEMORY_BYTES=str(2**40), KUBERNETES__UNSCHEDULABLE_TIMEOUT="PT2S")
    await cluster.platform.define(_COPY, **_SMALL | {"cpu": "16"})
    await cluster.platform.call(b"x")
    await cluster.says("degraded", "Unschedulable: ")


async def test_a_refused_quota_is_told_in_the_clusters_words(cluster: World) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await cluster.api.create(f"/api/v1/namespaces/{cluster.namespace}/resourcequotas", quota)
    cluster.start()
    await cluster.platform.define(_COPY, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    waiting = await cluster.says("waiting", "exceeded quota: none")  # at first the quota's status is not known
    assert waiting.startswith("QuotaExceeded: ")
    await cluster.api.delete(f"/api/v1/namespaces/{cluster.namespace}/resourcequotas/none")
    for job in await cluster.jobs_now():
        await cluster.api.delete(f"{cluster.jobs}/{job['metadata']['name']}", propagationPolicy="Background")
    ended = await cluster.ended(invocation.id)
    assert ended.change is Change.SUCCEEDED, described(ended)


async def test_a_pod_killed_by_hand_costs_an_attempt_that_is_told_at_once(cluster: World) -> None:
    cluster.start(BUS__LEASE="PT10S")
    await cluster.platform.define(_LONG_AT_FIRST, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    (pod,) = await cluster.until(cluster.running_pods, "its pod is seen to run")
    await cluster.api.delete(f"{cluster.pods}/{pod['metadata']['name']}", gracePeriodSeconds=1)
    changes = await cluster.changes(invocation.id)
    kinds = [(record.change, record.attempt) for record in changes]
    assert kinds == [(Change.STARTED, 1), (Change.RETRIED, 1), (Change.STARTED, 2), (Change.SUCCEEDED, 2)]
    lost = changes[1]
    assert lost.reason is Reason.WORKER_LOST
    assert lost.message is not None
    assert "PodDeleted" in lost.message


async def test_the_api_server_may_be_away_for_a_minute(cluster: World) -> None:
    cluster.start()
    await cluster.platform.define(_COPY, **_SMALL, reuse=1)
    first = await cluster.platform.upload("data/in/first.txt", b"1")
    await cluster.ended(first.id)
    await cluster.api_relay.cut()
    meanwhile = [await cluster.platform.upload(f"data/in/away{n}.txt", b"2") for n in range(3)]
    await asyncio.sleep(60)
    await cluster.api_relay.open()
    for one in meanwhile:
        ended = await cluster.ended(one.id)
        assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 1), described(ended)


async def test_the_next_scheduler_adopts_what_runs(cluster: World) -> None:
    process = cluster.start()
    await cluster.platform.define(_SLOW, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cluster.start()
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 1), described(ended)
    await cluster.until(lambda: "worker adopted" in cluster.log.read_text(), "the next scheduler leads")
    await cluster.until(lambda: _complete(cluster), "the adopted Worker ends when idle")
    assert len(await cluster.jobs_now()) == 1


async def _none_runs(cluster: World) -> bool:
    return not (await cluster.status()).get("running")


async def _complete(cluster: World) -> list[Any]:
    jobs = await cluster.jobs_now()
    return [job for job in jobs if job.get("status", {}).get("succeeded")]


async def test_a_worker_that_the_node_evicts_is_named_so(cluster: World) -> None:
    cluster.start(KUBERNETES__WORKSPACE_SIZE="4Mi", BUS__LEASE="PT10S")
    fill = "#!/bin/sh\ndd if=/dev/zero of=big bs=1M count=30\nsleep 200\n"
    await cluster.platform.define(fill, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    lost = await cluster.changed(invocation.id, Change.RETRIED)
    assert lost.reason is Reason.EVICTED, described(lost)
    assert lost.message is not None
    assert "Usage of EmptyDir volume" in lost.message


async def test_a_pod_evicted_for_a_drained_node_lets_its_worker_give_back_what_it_has(cluster: World) -> None:
    cluster.start(KUBERNETES__TERMINATION_GRACE="PT13S")
    await cluster.platform.define(_LONG_AT_FIRST, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    await cluster.started(invocation.id)
    (pod,) = await cluster.until(cluster.running_pods, "its pod is seen to run")
    name = pod["metadata"]["name"]
    await cluster.api.create(f"{cluster.pods}/{name}/eviction", {"metadata": {"name": name}})
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 2), described(ended)


async def test_an_image_without_a_shell_is_given_one(cluster: World) -> None:
    """Its first pod fails, which is nobody's failure; the script may call programs that are not in the image."""
    cluster.start()
    await cluster.platform.define(_IN_NO_SHELL, **_SMALL | {"image": "localhost/pause:1"})
    invocation = await cluster.platform.upload("data/in/a.txt", b"hello")
    ended = await cluster.ended(invocation.id)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 1), described(ended)
    assert "data/out/a.txt" in await cluster.platform.objects("data/out/")
    assert "worker failed" not in cluster.log.read_text()
    assert len([pod for pod in await cluster.pods_now() if "initContainers" in pod["spec"]]) == 1


async def test_an_image_without_a_shell_degrades_the_service_in_the_runtimes_words_where_none_is_brought(
    cluster: World,
) -> None:
    cluster.start(KUBERNETES__SUPERVISOR__SHELL="")
    await cluster.platform.define(_COPY, **_SMALL | {"image": "localhost/pause:1"})
    await cluster.platform.call(b"x")
    degraded = await cluster.says("degraded", "StartError: ")
    assert "/bin/sh" in degraded


async def test_the_launcher_needs_no_other_rights_than_it_says(cluster: World) -> None:
    await cluster.give_account("scheduler")
    cluster.start(BUS__PASSWORD="unused")  # a bus Secret is written
    await cluster.platform.define(_COPY, **_SMALL, image_prefetch=True)
    await cluster.until(lambda: _pullers(cluster), "the image's puller is there")
    invocation = await cluster.platform.upload("data/in/a.txt", b"hello")
    ended = await cluster.ended(invocation.id)
    assert ended.change is Change.SUCCEEDED, described(ended)
    await cluster.until(lambda: _no_pullers(cluster), "the image's puller is gone when the image is everywhere")
    await cluster.until(lambda: _complete(cluster), "the Worker ends when idle")
    assert await _secrets(cluster) == {f"tidemill-bus-{cluster.platform.name}", "tidemill-platform"}
    await cluster.platform.remove()
    await cluster.until(lambda: _is_forgotten(cluster), "the bus Secret goes with the Service")
    refused = [line for line in cluster.log.read_text().splitlines() if "forbidden" in line]
    assert [line for line in refused if "deployments" not in line] == []  # those are of exposed Services


async def test_user_code_finds_no_key_in_its_pod(cluster: World) -> None:
    """The needle is put together in the script, so that its own text is no find; a planted file is."""
    look = """#!/bin/sh
needle=test; needle=${needle}secret
echo "$needle" > planted
for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
  tr '\\0' '\\n' < "$file" | grep -q "$needle" && echo "found $file"
done
env | grep -q "$needle" && echo "found in env"
find / \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -type f -exec grep -l "$needle" {} + |
  sed 's/^/found /'
ls -d /run/tidemill /var/run/secrets /run/secrets 2>&1 | sed 's/^/listed /'
env | grep -c NEIGHBOUR_SERVICE | sed 's/^/links /'
"""
    neighbour = {"metadata": {"name": "neighbour"}, "spec": {"ports": [{"port": 80}]}}
    await cluster.api.create(f"/api/v1/namespaces/{cluster.namespace}/services", neighbour)
    cluster.start(BUS__PASSWORD="testsecret")
    await cluster.platform.define(look, **_SMALL)
    invocation = await cluster.platform.call(b"x")
    ended = await cluster.ended(invocation.id)
    assert ended.change is Change.SUCCEEDED, described(ended)
    lines = await cluster.platform.log_lines(invocation.id)
    found = [line for line in lines if line.startswith("found")]
    assert len(found) == 1, lines
    assert found[0].endswith("/planted")
    assert [line for line in lines if line.startswith("listed") and "No such file" not in line] == []
    assert "links 0" in lines


async def _pullers(cluster: World) -> list[Any]:
    found = await cluster.api.get(f"/apis/apps/v1/namespaces/{cluster.namespace}/daemonsets")
    return list(found["items"])


async def _no_pullers(cluster: World) -> bool:
    return not await _pullers(cluster)


async def _secrets(cluster: World) -> set[str]:
    found = await cluster.api.get(f"/api/v1/namespaces/{cluster.namespace}/secrets")
    return {item["metadata"]["name"] for item in found["items"]}


async def _is_forgotten(cluster: World) -> bool:
    return f"tidemill-bus-{cluster.platform.name}" not in await _secrets(cluster)


async def test_a_supervisor_without_memory_is_named_so(cluster: World) -> None:
    cluster.start(KUBERNETES__SUPERVISOR__MEMORY_REQUEST="16Mi", KUBERNETES__SUPERVISOR__MEMORY_LIMIT="16Mi")
    await cluster.platform.define(_COPY, **_SMALL)
    await cluster.platform.call(b"x")
    await cluster.says("degraded", "OOMKilled: container supervisor")
