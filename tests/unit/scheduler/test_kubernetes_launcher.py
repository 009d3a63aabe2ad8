"""The launcher over an API server in memory: what is written, and what is made of what the watches tell."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scheduler.test_kubernetes_template import SPEC
from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.errors import AccessDeniedError, ConflictError, UnavailableError
from tidemill_scheduler.launchers.kubernetes.api import Object
from tidemill_scheduler.launchers.kubernetes.bus_secrets import BusSecrets, SharedCredentials
from tidemill_scheduler.launchers.kubernetes.launcher import KubernetesLauncher
from tidemill_scheduler.launchers.kubernetes.nodes import node_of, pool_of
from tidemill_scheduler.launchers.kubernetes.prefetch import Prefetching, has_pulled
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType
from tidemill_scheduler.launchers.kubernetes.roster import Roster
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import job_of
from tidemill_scheduler.ports import Cause, WorkerEnded, WorkerNotice, WorkerSpec

SAMPLES = Path(__file__).parent / "samples" / "kubernetes"
SERVICE = Service(name=ServiceName("gray"), image="example.org/gray:1", script="")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryApi:
    """Notes writes, has nothing, and tells nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[tuple[str, str]] = []
        self.error = error
        self.taken: set[str] = set()

    async def get(self, path: str, **query: str) -> Object:
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    async def create(self, path: str, body: Object) -> Object:
        name = f"{path}/{body['metadata']['name']}"
        self.written.append(("POST", name))
        if self.error is not None:
            raise self.error
        if name in self.taken:
            raise ConflictError(f"{name} exists")
        self.taken.add(name)
        return body

    async def replace(self, path: str, body: Object) -> Object:
        self.written.append(("PUT", path))
        return body

    async def delete(self, path: str, **options: object) -> None:
        self.written.append(("DELETE", path))

    async def watch(self, path: str, *, silence: timedelta, **query: str) -> AsyncIterator[Object]:
        await asyncio.Event().wait()
        yield {}


class SlowApi(MemoryApi):
    """Others have a turn before it answers."""

    async def create(self, path: str, body: Object) -> Object:
        await asyncio.sleep(0)
        return await super().create(path, body)

    async def delete(self, path: str, **options: object) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().delete(path, **options)
        self.taken.discard(path)


@asynccontextmanager
async def launcher_on(
    api: MemoryApi, asked: list[WorkerSpec] | None = None, credentials: SharedCredentials | None = None
) -> AsyncIterator[KubernetesLauncher]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[MemoryApi]:
        yield api

    async def drain(worker: WorkerSpec) -> None:
        if asked is not None:
            asked.append(worker)

    made = KubernetesLauncher(KubernetesSettings(), api=opened(), environment={}, credentials=credentials, drain=drain)
    await made.adopt()
    try:
        yield made
    finally:
        await made.close()


async def test_starting_a_worker_is_one_write() -> None:
    api = MemoryApi()
    async with launcher_on(api) as launcher:
        await launcher.start(SPEC, SERVICE)
        assert api.written == [("POST", f"/apis/batch/v1/namespaces/tidemill-services/jobs/{SPEC.id}")]
        assert [(running.spec, running.is_pending) for running in launcher.workers()] == [(SPEC, True)]


async def test_starting_a_worker_twice_is_starting_it_once() -> None:
    async with launcher_on(MemoryApi()) as launcher:
        await launcher.start(SPEC, SERVICE)
        await launcher.start(SPEC, SERVICE)
        assert len(launcher.workers()) == 1


@pytest.mark.parametrize("error", [AccessDeniedError("exceeded quota"), UnavailableError("away")])
async def test_whatever_the_api_refuses_is_told_and_may_pass(error: Exception) -> None:
    async with launcher_on(MemoryApi(error)) as launcher:
        with pytest.raises(UnavailableError, match=str(error)):
            await launcher.start(SPEC, SERVICE)
        assert launcher.workers() == []


async def test_a_worker_that_never_ran_is_deleted_instead_of_asked() -> None:
    api, asked = MemoryApi(), list[WorkerSpec]()
    async with launcher_on(api, asked) as launcher:
        await launcher.start(SPEC, SERVICE)
        await launcher.stop(SPEC.id)
        async with asyncio.timeout(30):
            while len(api.written) < 2:
                await asyncio.sleep(0)
    assert api.written[1] == ("DELETE", f"/apis/batch/v1/namespaces/tidemill-services/jobs/{SPEC.id}")
    assert asked == []


async def test_the_bus_secret_is_written_once_and_replaced_when_it_is_there() -> None:
    api = MemoryApi()
    path = "/api/v1/namespaces/ns/secrets"
    for _ in range(2):
        secrets = BusSecrets(api, "ns", SharedCredentials("password"))
        for _ in range(3):
            await secrets.provide(ServiceName("gray"))
    name = f"{path}/tidemill-bus-gray"
    assert api.written == [("POST", name), ("POST", name), ("PUT", name)]


async def test_workers_of_one_service_that_start_side_by_side_write_one_bus_secret() -> None:
    api = SlowApi()
    secrets = BusSecrets(api, "ns", SharedCredentials("password"))
    await asyncio.gather(*(secrets.provide(ServiceName("gray")) for _ in range(5)))
    assert api.written == [("POST", "/api/v1/namespaces/ns/secrets/tidemill-bus-gray")]


async def test_a_bus_secret_that_is_needed_again_while_it_is_removed_is_there_afterwards() -> None:
    api, service = SlowApi(), ServiceName("gray")
    secrets = BusSecrets(api, "ns", SharedCredentials("password"))
    await secrets.provide(service)
    await asyncio.gather(secrets.remove(service), secrets.provide(service))
    assert [verb for verb, _ in api.written] == ["POST", "DELETE", "POST"]


async def test_a_service_that_was_removed_and_defined_again_at_once_has_its_bus_secret() -> None:
    api = SlowApi()
    secret = "/api/v1/namespaces/tidemill-services/secrets/tidemill-bus-gray"
    async with launcher_on(api, credentials=SharedCredentials("password")) as launcher:
        await launcher.start(SPEC, SERVICE)
        await launcher.tend({}, {SERVICE.name})
        await launcher.tend({SERVICE.name: SERVICE}, set())
        await launcher._write_what_is_due()
        assert ("DELETE", secret) in api.written
        assert secret in api.taken


async def test_a_removed_services_bus_secret_stays_away_while_its_last_workers_end() -> None:
    api = SlowApi()
    async with launcher_on(api, credentials=SharedCredentials("password")) as launcher:
        await launcher.tend({SERVICE.name: SERVICE}, set())
        await launcher.start(SPEC, SERVICE)
        await launcher.tend({}, {SERVICE.name})
        for _ in range(3):
            await launcher._write_what_is_due()
        assert [running.spec.service for running in launcher.workers()] == [SERVICE.name]
        assert "/api/v1/namespaces/tidemill-services/secrets/tidemill-bus-gray" not in api.taken


async def test_an_image_is_pulled_everywhere_once_and_its_puller_removed() -> None:
    api, settings = MemoryApi(), KubernetesSettings()
    prefetching = Prefetching(api, settings)
    wanted = {SERVICE.name: SERVICE.model_copy(update={"image_prefetch": True})}
    await prefetching.tend(wanted)
    await prefetching.tend(wanted)
    name = "/apis/apps/v1/namespaces/tidemill-services/daemonsets/image-puller-gray"
    assert api.written == [("POST", name)]
    metadata = {"name": "image-puller-gray", "labels": {"tidemill.io/service": "gray"}, "generation": 1}
    status = {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 1}
    prefetching.take(Change(ChangeType.MODIFIED, {"metadata": metadata, "status": status}))
    await prefetching.tend(wanted)
    assert api.written == [("POST", name)]
    done = {"metadata": metadata, "status": status | {"numberReady": 2}}
    assert has_pulled(done)
    prefetching.take(Change(ChangeType.MODIFIED, done))
    await prefetching.tend(wanted)
    assert api.written == [("POST", name), ("DELETE", name)]


class Told:
    """What a roster handed on that begins with nothing."""

    def __init__(self, **settings: Any) -> None:
        self.ended: list[WorkerEnded] = []
        self.notices: list[WorkerNotice] = []
        self.withdrawn: list[WorkerId] = []
        self.shellless: list[str] = []
        self.roster = Roster(
            KubernetesSettings.model_validate(settings),
            on_end=self.ended.append,
            on_notice=self.notices.append,
            on_withdraw=self.withdrawn.append,
            on_shellless=self.shellless.append,
        )

    def tell(self, name: str, *, kind: ChangeType = ChangeType.MODIFIED) -> None:
        """As if a sample happened to the Worker of `SPEC`."""
        found = json.loads((SAMPLES / f"{name}.json").read_text())
        if found.get("job") is not None:
            self.roster.take_job(Change(kind, named(found["job"])))
        if found.get("pod") is not None:
            self.roster.take_pod(Change(kind, named(found["pod"])))
        for event in found.get("warnings", ()):
            about = event["involvedObject"] | {"name": SPEC.id}
            self.roster.take_warning(Change(kind, event | {"involvedObject": about}))


def named(item: Object) -> Object:
    """A sample, as of the Worker of `SPEC`."""
    found = copy.deepcopy(item)
    made = job_of(SPEC, SERVICE, KubernetesSettings(), environment={})["metadata"]
    name = SPEC.id if found.get("kind") == "Job" or "backoffLimit" in found.get("spec", {}) else f"{SPEC.id}-abcde"
    found["metadata"] |= {"name": name, "uid": "u", "labels": made["labels"], "annotations": made["annotations"]}
    return found


def test_a_worker_is_adopted_from_its_job_and_told_to_have_ended_once() -> None:
    told = Told()
    told.tell("running")
    told.roster.complete()
    (running,) = told.roster.workers()
    assert (running.spec, running.is_adopted, running.is_pending) == (SPEC, True, False)
    told.tell("succeeded")
    told.tell("succeeded")
    assert [(ended.spec, ended.exit_code, ended.cause) for ended in told.ended] == [(SPEC, 0, None)]
    assert told.roster.workers() == []


def test_what_has_ended_before_is_not_adopted() -> None:
    told = Told()
    told.tell("succeeded")
    told.roster.complete()
    assert told.ended == []
    assert told.roster.workers() == []


def test_a_hopeless_image_is_withdrawn_once_with_the_clusters_words() -> None:
    told = Told()
    told.roster.complete()
    told.roster.started(SPEC, named({"metadata": {}, "spec": {"backoffLimit": 0}}), NOW)
    told.tell("err-image-pull")
    assert told.withdrawn == []
    told.tell("image-pull-back-off")
    told.tell("image-pull-back-off")
    assert told.withdrawn == [SPEC.id]
    told.tell("image-pull-back-off", kind=ChangeType.DELETED)
    (ended,) = told.ended
    assert ended.cause is not None
    assert ended.cause.reason == "ImagePullBackOff"
    assert not ended.was_draining


def test_a_worker_without_a_node_is_withdrawn_when_its_time_is_over() -> None:
    told = Told(unschedulable_timeout="PT60S")
    told.roster.complete()
    told.tell("unschedulable")
    now = datetime.now(UTC)
    told.roster.withdraw_overdue(now + timedelta(seconds=59))
    assert told.withdrawn == []
    told.roster.withdraw_overdue(now + timedelta(seconds=61))
    told.roster.withdraw_overdue(now + timedelta(seconds=62))
    assert told.withdrawn == [SPEC.id]


@pytest.mark.parametrize(("exit_code", "seconds"), [(0, 30), (137, 3)])
def test_a_user_container_may_outlive_its_supervisor_for_longer_when_that_did_its_work(
    exit_code: int, seconds: int
) -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    pod = named(json.loads((SAMPLES / "running.json").read_text())["pod"])
    supervisor = next(one for one in pod["status"]["containerStatuses"] if one["name"] == "supervisor")
    supervisor["state"] = {"terminated": {"exitCode": exit_code}}
    told.roster.take_pod(Change(ChangeType.MODIFIED, pod))
    now = datetime.now(UTC)
    told.roster.withdraw_overdue(now + timedelta(seconds=seconds - 1))
    assert told.withdrawn == []
    told.roster.withdraw_overdue(now + timedelta(seconds=seconds + 1))
    assert told.withdrawn == [SPEC.id]


def test_an_ended_user_container_is_told_once_while_its_worker_lives() -> None:
    told = Told()
    told.roster.complete()
    told.tell("start-error")
    told.tell("start-error")
    assert [notice.cause.reason for notice in told.notices] == ["StartError"]
    assert len(told.roster.workers()) == 1


@pytest.mark.parametrize(
    ("status", "of_user", "told_of"),
    [
        ({"exitCode": 137, "reason": "Error"}, "Error", None),
        ({"exitCode": 137, "reason": "Error"}, "OOMKilled", "OOMKilled"),
        ({"exitCode": 75, "reason": "Error"}, "Error", "Error"),
    ],
    ids=["supervisor-killed", "memory", "orderly"],
)
def test_a_killed_supervisor_is_the_cause_although_its_user_container_was_seen_to_end_first(
    status: Object, of_user: str, told_of: str | None
) -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    pod = named(json.loads((SAMPLES / "running.json").read_text())["pod"])
    of = {one["name"]: one for one in pod["status"]["containerStatuses"]}
    supervisor, user = of["supervisor"], of["user"]
    user["state"] = {"terminated": {"exitCode": 143, "reason": of_user}}
    told.roster.take_pod(Change(ChangeType.MODIFIED, copy.deepcopy(pod)))
    assert [notice.cause.reason for notice in told.notices] == [of_user]
    supervisor["state"] = {"terminated": status}
    pod["status"]["phase"] = "Failed"
    told.roster.take_pod(Change(ChangeType.MODIFIED, pod))
    (ended,) = told.ended
    assert (ended.cause and ended.cause.reason) == told_of


def test_an_image_without_a_shell_is_learnt_and_no_failure_of_its_service() -> None:
    told = Told()
    told.roster.complete()
    job = named({"metadata": {}, "spec": {"backoffLimit": 0}})
    told.roster.started(SPEC, job, NOW, plain_image="example.org/static:1")
    told.tell("start-error")
    assert set(told.shellless) == {"example.org/static:1"}
    assert told.withdrawn == [SPEC.id]
    assert [(running.is_draining, running.trouble) for running in told.roster.workers()] == [(True, None)]
    told.tell("start-error", kind=ChangeType.DELETED)
    assert [ended.was_draining for ended in told.ended] == [True]


def test_a_worker_that_brought_a_shell_in_vain_failed() -> None:
    told = Told()
    told.roster.complete()
    told.roster.started(SPEC, named({"metadata": {}, "spec": {"backoffLimit": 0}}), NOW)
    told.tell("start-error")
    told.tell("start-error", kind=ChangeType.DELETED)
    assert told.shellless == []
    assert [(ended.was_draining, ended.cause and ended.cause.reason) for ended in told.ended] == [(False, "StartError")]


def taken(*, by: str = "") -> Object:
    """A pod that runs while it is taken away: deleted, or for a reason of the cluster's."""
    pod = named(json.loads((SAMPLES / "running.json").read_text())["pod"])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": by, "message": "evicting"}
    pod["status"]["conditions"] = [*pod["status"]["conditions"], *([condition] if by else [])]
    return pod


@pytest.mark.parametrize(("by", "reason"), [("", "PodDeleted"), ("EvictionByEvictionAPI", "EvictionByEvictionAPI")])
def test_a_worker_whose_pod_is_taken_away_is_told_why_before_it_ends(by: str, reason: str) -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    for _ in range(2):
        told.roster.take_pod(Change(ChangeType.MODIFIED, taken(by=by)))
    assert [notice.cause.reason for notice in told.notices] == [reason]
    assert told.ended == []


def test_a_worker_is_told_again_when_it_becomes_known_why_its_pod_was_deleted() -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    job = named(json.loads((SAMPLES / "running.json").read_text())["job"])
    told.roster.take_pod(Change(ChangeType.MODIFIED, taken()))  # of two watches this one was read first
    job["spec"]["suspend"] = True
    for _ in range(2):
        told.roster.take_job(Change(ChangeType.MODIFIED, job))
        told.roster.take_pod(Change(ChangeType.MODIFIED, taken()))
    assert [notice.cause.reason for notice in told.notices] == ["PodDeleted", "Suspended"]


def test_a_worker_that_we_end_ourselves_is_told_no_cause() -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    told.roster.kill(SPEC.id)
    told.roster.take_pod(Change(ChangeType.MODIFIED, taken()))
    assert told.notices == []


def test_a_running_worker_is_asked_to_drain_and_a_pending_one_is_withdrawn() -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    told.roster.drain(SPEC.id)
    assert [spec.id for spec in told.roster.draining()] == [SPEC.id]
    assert told.withdrawn == []
    other = Told()
    other.roster.complete()
    other.tell("pulling")
    other.roster.drain(SPEC.id)
    assert other.withdrawn == [SPEC.id]


def test_a_pod_of_a_lost_node_ends_its_worker_when_the_cluster_gives_it_up() -> None:
    told, lost = Told(), Cause("NodeLost", "node testbed-node: Kubelet stopped posting node status.")
    told.roster.complete()
    told.tell("running")
    told.roster.take_node("testbed-node", lost)
    assert told.ended == []
    assert [(one.is_cut_off, one.trouble) for one in told.roster.workers()] == [(True, lost)]
    pod = named(json.loads((SAMPLES / "running.json").read_text())["pod"])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    told.roster.take_pod(Change(ChangeType.MODIFIED, pod))
    assert [ended.cause for ended in told.ended] == [lost]


def test_a_node_that_answers_again_has_its_workers_as_before() -> None:
    told = Told()
    told.roster.complete()
    told.tell("running")
    told.roster.take_node("testbed-node", Cause("NodeLost"))
    told.roster.take_node("testbed-node", None)
    assert [(one.is_cut_off, one.trouble) for one in told.roster.workers()] == [(False, None)]
    assert told.ended == []


def test_a_node_that_does_not_answer_is_told_in_the_clusters_words() -> None:
    silent = node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}])
    words = "Kubelet stopped posting node status."
    silent["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "message": words}]
    found = node_of(silent, KubernetesSettings())
    assert (found.lost, found.is_usable) == (Cause("NodeLost", f"node n: {words}"), False)
    assert node_of(node(), KubernetesSettings()).lost is None


def node(**spec: Any) -> Object:
    return {
        "metadata": {"name": "n", "labels": {"zone": "a"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def test_the_pool_is_what_usable_nodes_leave() -> None:
    settings = KubernetesSettings()
    nodes = [node_of(node(), settings), node_of(node(unschedulable=True), settings)]
    pool = pool_of(nodes, settings, max_starting=None)
    assert pool.nodes == 1
    assert (pool.cpu_millicores, pool.beside_cpu_millicores) == (4000 - 200, 20)
    assert (pool.memory_bytes, pool.beside_memory_bytes) == (8 * 1024**3 - 512 * 1024**2, 64 * 1024**2)


@pytest.mark.parametrize(
    ("placement", "spec", "is_usable"),
    [
        ({}, {"taints": [{"key": "k", "effect": "NoSchedule"}]}, False),
        ({}, {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}, True),
        (
            {"tolerations": [{"key": "k", "operator": "Exists"}]},
            {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            True,
        ),
        ({"tolerations": [{"key": "k", "value": "v"}]}, {"taints": [{"key": "k", "effect": "NoExecute"}]}, False),
        ({"node_selector": {"zone": "a"}}, {}, True),
        ({"node_selector": {"zone": "b"}}, {}, False),
    ],
)
def test_a_node_is_usable_if_workers_may_run_on_it(placement: Any, spec: Any, is_usable: bool) -> None:
    settings = KubernetesSettings.model_validate({"placement": placement})
    assert node_of(node(**spec), settings).is_usable is is_usable
