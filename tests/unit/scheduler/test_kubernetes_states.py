"""What the cluster says of a Worker, from objects of a real cluster (samples/kubernetes)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tidemill_scheduler.launchers.kubernetes.states import Seen, Stage, Standing, standing_of
from tidemill_scheduler.ports import Cause

SAMPLES = Path(__file__).parent / "samples" / "kubernetes"


def seen(name: str) -> Seen:
    found: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return Seen(job=found.get("job"), pod=found.get("pod"), warnings=found.get("warnings", ()))


def standing(name: str) -> Standing:
    return standing_of(seen(name))


@pytest.mark.parametrize(
    "name", ["created", "pulling", "err-image-pull", "image-pull-back-off", "unschedulable", "quota"]
)
def test_a_worker_whose_user_container_has_not_begun_is_pending(name: str) -> None:
    assert standing(name).stage is Stage.PENDING


@pytest.mark.parametrize("name", ["running", "user-ended", "start-error"])
def test_a_worker_runs_as_long_as_its_supervisor(name: str) -> None:
    assert standing(name).stage is Stage.RUNNING


@pytest.mark.parametrize("name", ["succeeded", "evicted", "deleted", "eviction-api", "oom-killed"])
def test_a_worker_has_ended_when_its_pod_has(name: str) -> None:
    assert standing(name).stage is Stage.ENDED


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("err-image-pull", "ErrImagePull", 'failed to resolve reference "localhost/nothing:1"'),
        ("image-pull-back-off", "ImagePullBackOff", 'Back-off pulling image "localhost/nothing:1"'),
        ("unschedulable", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu"),
        ("quota", "QuotaExceeded", "exceeded quota: none"),
    ],
)
def test_what_keeps_a_worker_from_running_is_told_in_the_clusters_words(name: str, reason: str, words: str) -> None:
    trouble = standing(name).trouble
    assert trouble is not None
    assert trouble.reason == reason
    assert words in trouble.message


def test_an_image_that_is_backed_off_is_hopeless_and_a_first_failure_is_not() -> None:
    assert standing("image-pull-back-off").is_hopeless
    assert not standing("err-image-pull").is_hopeless


@pytest.mark.parametrize(("name", "waits"), [("unschedulable", True), ("quota", True), ("err-image-pull", False)])
def test_a_worker_waits_for_room_or_for_something_else(name: str, waits: bool) -> None:
    assert standing(name).is_waiting_for_room is waits


def test_a_mount_that_failed_is_no_trouble_once_the_sandbox_is_there() -> None:
    before = seen("pulling")
    pod = copy.deepcopy(dict(before.pod or {}))
    event = {
        "involvedObject": {"kind": "Pod", "name": pod["metadata"]["name"]},
        "reason": "FailedMount",
        "message": "MountVolume.SetUp failed",
    }
    told = standing_of(Seen(job=before.job, pod=pod, warnings=[event])).trouble
    assert told == Cause("FailedMount", "MountVolume.SetUp failed")
    for condition in pod["status"]["conditions"]:
        if condition["type"] == "PodReadyToStartContainers":
            condition["status"] = "True"
    assert standing_of(Seen(job=before.job, pod=pod, warnings=[event])).trouble is None


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("evicted", "Evicted", "Usage of EmptyDir volume"),
        ("eviction-api", "EvictionByEvictionAPI", "Eviction API: evicting"),
        ("deleted", "PodDeleted", "was deleted"),
        ("oom-killed", "OOMKilled", "container user"),
    ],
)
def test_what_ended_a_worker_has_a_name(name: str, reason: str, words: str) -> None:
    cause = standing(name).cause
    assert cause is not None
    assert cause.reason == reason
    assert words in cause.message


def test_a_worker_that_did_its_work_has_no_cause() -> None:
    ended = standing("succeeded")
    assert (ended.cause, ended.exit_code, ended.signal) == (None, 0, None)


@pytest.mark.parametrize("name", ["user-ended", "start-error"])
def test_the_end_of_the_users_container_alone_is_known(name: str) -> None:
    assert standing(name).user_ended is not None


def test_an_image_without_a_shell_is_told_as_the_runtime_tells_it() -> None:
    ended = standing("start-error").user_ended
    assert ended is not None
    assert ended.reason == "StartError"
    assert '"/bin/sh"' in ended.message


def test_a_pod_of_a_lost_node_has_ended_once_the_cluster_gives_it_up() -> None:
    before = seen("running")
    lost = Cause("NodeLost", "node a: Kubelet stopped posting node status.")
    until_then = standing_of(Seen(job=before.job, pod=before.pod, node_lost=lost))
    assert (until_then.stage, until_then.trouble, until_then.is_cut_off) == (Stage.RUNNING, lost, True)
    pod = copy.deepcopy(dict(before.pod or {}))
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    given_up = standing_of(Seen(job=before.job, pod=pod, node_lost=lost))
    assert (given_up.stage, given_up.cause) == (Stage.ENDED, lost)


@pytest.mark.parametrize(
    ("limit", "deleted", "grace", "reason"),
    [
        (60, "2026-01-01T00:01:30Z", 30, "DeadlineExceeded"),
        (60, "2026-01-01T00:01:00Z", 30, "PodDeleted"),
        (None, "2026-01-01T00:01:30Z", 30, "PodDeleted"),
    ],
)
def test_a_pod_that_its_job_deletes_in_time_is_told_from_one_that_somebody_deleted(
    limit: int | None, deleted: str, grace: int, reason: str
) -> None:
    before = seen("running")
    pod, job = copy.deepcopy(dict(before.pod or {})), copy.deepcopy(dict(before.job or {}))
    pod["metadata"] |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace}
    job["spec"]["activeDeadlineSeconds"] = limit
    job["status"]["startTime"] = "2026-01-01T00:00:00Z"
    going = standing_of(Seen(job=job, pod=pod)).going
    assert going is not None
    assert going.reason == reason


def test_a_pod_that_its_queue_takes_away_is_told_so_and_one_that_it_has_just_admitted_is_not() -> None:
    before = seen("running")
    pod, job = copy.deepcopy(dict(before.pod or {})), copy.deepcopy(dict(before.job or {}))
    job["spec"]["suspend"] = True
    assert standing_of(Seen(job=job, pod=pod)).going is None
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    going = standing_of(Seen(job=job, pod=pod)).going
    assert going == Cause("Suspended", "its queue took its room back")


def test_why_a_queue_does_not_admit_a_job_is_told_in_its_words() -> None:
    job = copy.deepcopy(dict(seen("created").job or {}))
    job["spec"]["suspend"] = True
    words = "couldn't assign flavors to pod set main: insufficient unused quota for cpu"
    event = {"reason": "Pending", "message": words, "involvedObject": {"kind": "Workload"}}
    waiting = standing_of(Seen(job=job, warnings=[event]))
    assert (waiting.stage, waiting.trouble, waiting.is_waiting_for_room) == (
        Stage.PENDING,
        Cause("Suspended", words),
        False,
    )


def test_a_pods_own_deadline_is_known_from_an_event_before_it_ends() -> None:
    before = seen("running")
    words = "Pod was active on the node longer than the specified deadline"
    event = {"reason": "DeadlineExceeded", "message": words, "involvedObject": {"kind": "Pod"}}
    going = standing_of(Seen(job=before.job, pod=before.pod, warnings=[event])).going
    assert going == Cause("DeadlineExceeded", words)


def test_a_pod_that_runs_holds_room_whatever_became_of_its_job() -> None:
    before = seen("running")
    assert standing_of(Seen(job=None, pod=before.pod)).stage is Stage.RUNNING
    gone = standing_of(Seen())
    assert (gone.stage, gone.cause) == (Stage.ENDED, Cause("JobDeleted", "its Job was deleted"))


def test_a_deadline_is_told_by_the_job() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer"}
    job = {"metadata": {}, "spec": {}, "status": {"conditions": [failed]}}
    assert standing_of(Seen(job=job)).cause == Cause("DeadlineExceeded", "Job was active longer")


def test_a_suspended_job_waits_for_its_queue_and_not_for_room() -> None:
    waiting = standing_of(Seen(job={"metadata": {}, "spec": {"suspend": True}, "status": {}}))
    assert waiting.stage is Stage.PENDING
    assert waiting.trouble is not None
    assert waiting.trouble.reason == "Suspended"
    assert not waiting.is_waiting_for_room
