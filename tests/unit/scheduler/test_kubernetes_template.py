"""The Job of a Worker: what every cluster gets, and what single fields and settings change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.runner import runner_command
from tidemill_scheduler.launchers.kubernetes.labels import label_value, spec_of
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import job_of, literal, pull_policy
from tidemill_scheduler.ports import WorkerSpec

SAMPLES = Path(__file__).parent / "samples"
SPEC = WorkerSpec(
    id=WorkerId("gray-0a1b2c3d"),
    service=ServiceName("gray"),
    owner="ada",
    pool="kubernetes",
    revision=3,
    slots=1,
    cpu_millicores=200,
    memory_bytes=256 * 1024**2,
)
FULL: dict[str, Any] = {
    "ephemeral_storage_request": "1Gi",
    "enable_gpu": True,
    "enable_sgx": True,
    "image_pull_secrets": ("mine",),
    "annotations": {"note": "x"},
    "labels": {"team": "a b", "tidemill.io/worker": "forged", "app.kubernetes.io/managed-by": "me"},
    "vo": "vo.example.org",
    "owner": "0123abcd@egi.eu",
}


def job(
    settings: dict[str, Any] | None = None,
    nodes: frozenset[str] = frozenset(),
    brings_shell: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    service = Service.model_validate({"name": "gray", "image": "example.org/gray:1", "script": "", **fields})
    return job_of(
        SPEC,
        service,
        KubernetesSettings.model_validate(settings or {}),
        environment={"TIDEMILL_SUPERVISOR_BUS__URL": "nats://nats:4222"},
        interlink_nodes=nodes,
        brings_shell=brings_shell,
    )


def pod(*arguments: Any, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = job(*arguments, **fields)["spec"]["template"]["spec"]
    return found


def container(name: str, of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in of["containers"] if one["name"] == name)
    return found


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL), ("shellless", {"brings_shell": True})])
def test_a_job_is_as_its_sample(name: str, fields: dict[str, Any]) -> None:
    made = job(**fields)
    container("user", made["spec"]["template"]["spec"])["command"][2] = "LOOP"
    assert made == json.loads((SAMPLES / f"job-{name}.json").read_text())


def test_a_shell_is_brought_by_a_volume_that_user_code_cannot_change() -> None:
    made = pod(brings_shell=True)
    (init,) = made["initContainers"]
    assert [mount["name"] for mount in init["volumeMounts"]] == ["shell"]
    assert init["securityContext"] == container("supervisor", made)["securityContext"]
    mounts = {mount["mountPath"]: mount for mount in container("user", made)["volumeMounts"]}
    assert mounts["/bin/sh"]["subPath"] == "busybox"
    assert mounts["/bin/sh"]["readOnly"] is mounts["/tidemill-shell"]["readOnly"] is True
    assert container("user", made)["command"][-2:] == ["/tidemill/gray-0a1b2c3d", "/tidemill-shell"]
    assert "initContainers" not in pod()


def test_only_the_supervisor_has_keys_and_nobody_a_cluster_token() -> None:
    made = pod()
    assert made["automountServiceAccountToken"] is False
    assert [mount["name"] for mount in container("user", made)["volumeMounts"]] == ["workspace"]
    assert "env" not in container("user", made)
    assert {"secrets", "bus"} <= {mount["name"] for mount in container("supervisor", made)["volumeMounts"]}


def test_the_loop_reaches_the_container_as_it_is() -> None:
    """Kubernetes makes `$` of `$$`, and leaves `$x` alone."""
    command = container("user", pod())["command"]
    assert [part.replace("$$", "$") for part in command] == runner_command("/tidemill/gray-0a1b2c3d")
    assert literal("a $$ $(X)") == "a $$$$ $$(X)"


def test_users_labels_cannot_take_the_place_of_ours() -> None:
    labels = job(**FULL)["metadata"]["labels"]
    assert labels["tidemill.io/worker"] == "gray-0a1b2c3d"
    assert labels["app.kubernetes.io/managed-by"] == "tidemill"
    assert labels["team"] == "a_b"


def test_an_owner_is_named_as_oscar_does() -> None:
    labels = job(**FULL)["metadata"]["labels"]
    assert labels["uid"] == labels["owner_name"] == labels["oscar.grycap/job-owner"] == "0123abcd"
    assert "uid" not in job()["metadata"]["labels"]


def test_the_next_scheduler_knows_the_worker_by_its_job() -> None:
    assert spec_of(job()) == SPEC
    assert spec_of({"metadata": {"annotations": {"tidemill.io/worker-spec": "{}"}}}) is None


def test_kueue_admits_the_jobs_of_all_but_the_admin() -> None:
    settings = {"kueue": True}
    waiting = job(settings, owner="ada")
    assert waiting["spec"]["suspend"] is True
    assert waiting["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "oscar-lq-gray"
    assert "suspend" not in job(settings)["spec"]
    assert "suspend" not in job(owner="ada")["spec"]


def test_yunikorn_is_told_queue_and_application() -> None:
    made = job({"yunikorn": True})
    assert made["spec"]["template"]["spec"]["schedulerName"] == "yunikorn"
    assert made["metadata"]["labels"]["queue"] == "root.oscar-queue.gray"
    assert made["metadata"]["labels"]["applicationId"] == "gray"


def test_an_interlink_node_is_used_if_there_is_one() -> None:
    made = pod(nodes=frozenset({"leonardo"}), interlink_node_name="leonardo")
    assert made["nodeSelector"] == {"kubernetes.io/hostname": "leonardo"}
    assert {"key": "virtual-node.interlink/no-schedule", "operator": "Exists"} in made["tolerations"]
    assert "nodeSelector" not in pod(interlink_node_name="leonardo")


def test_an_operator_says_where_workers_run() -> None:
    placement = {
        "node_selector": {"zone": "a"},
        "tolerations": ({"key": "dedicated", "operator": "Exists"},),
        "architecture": "arm64",
        "priority_class": "low",
        "runtime_class": "gvisor",
    }
    made = pod({"placement": placement})
    assert made["nodeSelector"] == {"zone": "a", "kubernetes.io/arch": "arm64"}
    assert made["tolerations"][0] == {"key": "dedicated", "operator": "Exists"}
    assert (made["priorityClassName"], made["runtimeClassName"]) == ("low", "gvisor")


def test_a_security_context_is_safe_until_the_operator_says_otherwise() -> None:
    user = container("user", pod())["securityContext"]
    assert user == {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
    strict = {"user": {"security_context": {"runAsNonRoot": True}}}
    assert container("user", pod(strict))["securityContext"] == {**user, "runAsNonRoot": True}
    supervisor = container("supervisor", pod())["securityContext"]
    assert supervisor["readOnlyRootFilesystem"] is True
    assert supervisor["runAsNonRoot"] is True


def test_requests_may_be_a_part_of_the_limits() -> None:
    resources = container("user", pod({"user": {"request_ratio": 0.5}}))["resources"]
    assert resources["requests"]["cpu"] == "100m"
    assert resources["limits"]["cpu"] == "200m"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a/b:1", "IfNotPresent"),
        ("a/b", "Always"),
        ("a/b:latest", "Always"),
        ("host:5000/b", "Always"),
        ("host:5000/b:1", "IfNotPresent"),
        ("a/b@sha256:00", "IfNotPresent"),
    ],
)
def test_a_tag_that_moves_is_asked_for_each_time(image: str, policy: str) -> None:
    assert pull_policy(image, None) == policy


@pytest.mark.parametrize(("text", "label"), [("a b", "a_b"), ("-x-", "x"), ("é", ""), ("x" * 70, "x" * 63)])
def test_a_label_holds_what_kubernetes_takes(text: str, label: str) -> None:
    assert label_value(text) == label
