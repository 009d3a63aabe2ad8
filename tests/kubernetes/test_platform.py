"""The platform as the chart installs it: what users do, what each component may do, and what stays over an upgrade."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.kubectl import Cluster
from tests.kubernetes.release import CHART, NAME, Release, wait_until
from tests.scenarios import SCENARIOS, Scenario, Target
from tests.scenarios.target import fresh

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

COPY = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/copy.txt"\n'


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(platform: Release, scenario: Scenario) -> None:
    scenario(platform.target, "k8s")


def test_a_services_secrets_come_and_go_with_it(platform: Release, kubernetes: Cluster) -> None:
    name, target = fresh("k8s", "secret"), platform.target
    token = target.apply(name, 'echo "the word is $WORD"\n', environment={"secrets": {"WORD": "swordfish"}})
    assert f"tidemill-service-{name}" in kubernetes.names("secret", platform.workers)

    assert target.call(name, token, b"x").text == "the word is swordfish\n"
    assert f"tidemill-bus-{name}" in kubernetes.names("secret", platform.workers)
    target.remove(name)

    gone = {f"tidemill-service-{name}", f"tidemill-bus-{name}"}
    wait_until(lambda: not gone & kubernetes.names("secret", platform.workers), "its Secrets are gone")
    running = (
        "pods",
        "-n",
        platform.workers,
        "-l",
        f"tidemill.io/service={name}",
        "--field-selector=status.phase=Running",
    )
    wait_until(lambda: not kubernetes.get(*running)["items"], "its Workers are gone")


def test_a_name_that_kubernetes_does_not_take_is_refused_when_the_service_is_made(platform: Release) -> None:
    document = {"name": "Under_Score", "image": "x", "script": "exit 0\n", "cpu": "0.1", "memory": "32Mi"}
    answer = platform.target.api("POST", "/system/services", json=document)
    assert answer.status_code == 400, answer.text
    assert "Kubernetes" in answer.text


def test_an_exposed_service_is_reached_through_the_gateway_and_goes_with_its_objects(
    platform: Release, kubernetes: Cluster
) -> None:
    name, target = fresh("k8s", "site"), platform.target
    script = "#!/bin/sh\nmkdir -p /tmp/site && echo hello > /tmp/site/index.html\nexec httpd -f -p 8080 -h /tmp/site\n"
    expose = {"api_port": 8080, "min_scale": 1, "max_scale": 1, "cpu_threshold": 80}
    target.apply(name, script, expose=expose)
    base = f"/system/services/{name}/exposed/"

    target.wait(lambda: target.api("GET", base).status_code == 200, "it answers", show=platform.state)

    assert target.api("GET", base).text == "hello\n"
    target.remove(name)
    made = ("deployments,services,configmaps,horizontalpodautoscalers", "-n", platform.workers)
    chosen = ("-l", f"tidemill.io/service={name}")
    wait_until(lambda: not kubernetes.get(*made, *chosen)["items"], "its objects are gone")


_SECRETS = "secrets"
_APPLIED = {"get", "create", "patch", "delete"}
_MAY: dict[str, dict[str, set[str]]] = {
    "gateway": {_SECRETS: {"get", "create", "patch", "delete"}},
    "storage-bridge": {_SECRETS: {"get"}},
    "scheduler": {
        _SECRETS: {*_APPLIED, "update"},
        "jobs.batch": {"create", "list", "watch", "delete"},
        "pods": {"list", "watch", "delete"},
        "pods/log": {"get"},
        "events": {"list", "watch"},
        "daemonsets.apps": {"create", "update", "list", "watch", "delete"},
        "deployments.apps": {*_APPLIED, "list", "watch"},
        "configmaps": _APPLIED,
        "services": _APPLIED,
        "horizontalpodautoscalers.autoscaling": _APPLIED,
        "ingresses.networking.k8s.io": _APPLIED,
    },
}
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
_KINDS = (
    *_MAY["scheduler"],
    *("pods/exec", "pods/attach", "pods/portforward", "serviceaccounts", "serviceaccounts/token", "statefulsets.apps"),
    *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "networkpolicies.networking.k8s.io"),
)


@pytest.mark.parametrize("component", _MAY)
def test_a_component_may_do_in_the_workers_namespace_what_it_needs_and_no_more(
    platform: Release, kubernetes: Cluster, component: str
) -> None:
    account = f"{platform.namespace}:{NAME}-{component}"
    asked = [(verb, kind, platform.workers) for verb in _VERBS for kind in _KINDS]
    expected = {(verb, kind, platform.workers) for kind, verbs in _MAY[component].items() for verb in verbs}
    assert kubernetes.allowed(account, asked) == expected


@pytest.mark.parametrize("component", _MAY)
def test_a_component_may_do_nothing_elsewhere(platform: Release, kubernetes: Cluster, component: str) -> None:
    account = f"{platform.namespace}:{NAME}-{component}"
    places = (platform.namespace, "kube-system", "default")
    asked = [(verb, kind, place) for verb in _VERBS for kind in _KINDS for place in places]
    cluster = [(verb, kind, "") for verb in _VERBS for kind in ("nodes", "namespaces", "persistentvolumes", _SECRETS)]
    sees_nodes = {("list", "nodes", ""), ("watch", "nodes", "")} if component == "scheduler" else set()
    assert kubernetes.allowed(account, [*asked, *cluster]) == sees_nodes


def test_the_scheduler_cannot_change_the_keys_of_services_or_list_secrets(
    platform: Release, kubernetes: Cluster
) -> None:
    who = f"--as=system:serviceaccount:{platform.namespace}:{NAME}-scheduler"
    for arguments in (
        ("get", "secrets"),
        ("delete", "secret", "tidemill-platform"),
        ("patch", "secret", "tidemill-platform", "-p", '{"metadata": {"labels": {"a": "b"}}}'),
        ("create", "secret", "generic", "tidemill-service-forged", "--from-literal=record.json={}"),
    ):
        done = kubernetes.run(*arguments, "-n", platform.workers, who, check=False)
        assert done.returncode != 0, arguments
        assert "forbidden" in done.stderr.lower() or "denied" in done.stderr.lower(), done.stderr
    kubernetes.run("create", "secret", "generic", "tidemill-bus-probe", "-n", platform.workers, who)
    kubernetes.run("delete", "secret", "tidemill-bus-probe", "-n", platform.workers, who)


def test_the_gateway_cannot_change_the_platforms_key(platform: Release, kubernetes: Cluster) -> None:
    who = f"--as=system:serviceaccount:{platform.namespace}:{NAME}-gateway"
    for arguments in (
        ("delete", "secret", "tidemill-platform"),
        ("create", "secret", "generic", "tidemill-bus-forged", "--from-literal=bus.creds=x"),
    ):
        done = kubernetes.run(*arguments, "-n", platform.workers, who, check=False)
        assert "denied" in done.stderr.lower(), f"{arguments}: {done.stderr}"


def test_no_pod_of_the_platform_was_restarted_to_get_ready(platform: Release, kubernetes: Cluster) -> None:
    pods = kubernetes.get("pods", "-n", platform.namespace)["items"]
    restarts: dict[str, Any] = {
        pod["metadata"]["name"]: [one["restartCount"] for one in pod["status"]["containerStatuses"]] for pod in pods
    }
    assert not any(count for counts in restarts.values() for count in counts), restarts


def test_an_upgrade_keeps_passwords_keys_and_services(platform: Release, kubernetes: Cluster) -> None:
    name, target = fresh("k8s", "kept"), platform.target
    folder = {"storage_provider": "minio.default", "path": f"{name}/in"}
    target.apply(name, COPY, input=[folder], output=[{**folder, "path": f"{name}/out"}])
    before = kubernetes.get("secret", f"{NAME}-credentials", f"{NAME}-bus", "-n", platform.namespace)["items"]

    platform.apply(gateway={"environment": {"TIDEMILL_GATEWAY_ACCESS_LOG_ENTRIES": "17"}})

    after = kubernetes.get("secret", f"{NAME}-credentials", f"{NAME}-bus", "-n", platform.namespace)["items"]
    assert [one["data"] for one in after] == [one["data"] for one in before]
    target.put(f"{name}/in/a.txt", b"still here")
    (row,) = target.all_ended(name, 1)
    assert row["phase"] == "Succeeded", json.dumps(row)


def test_the_page_can_be_followed_as_it_stands(platform: Release, tmp_path: Path) -> None:
    target = platform.target
    platform.apply(store={"publicEndpoint": target.s3_endpoint})
    target.patiently("GET", "/health")  # the forwarded port leads to the new pod
    page = (CHART.parents[2] / "docs" / "kubernetes.md").read_text()
    (block,) = [text for text in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "tidemill apply" in text]
    block = block.replace("docker.io/library/busybox:1.37", target.image)
    before, after = block.split("tidemill invocations")

    shell(f"set -e\n{before}", tmp_path, target)
    assert [row["phase"] for row in target.all_ended("count", 1)] == ["Succeeded"]
    shell(f"set -e\ntidemill invocations{after}", tmp_path, target)

    assert (tmp_path / "words.txt.count").read_text().strip() == "5"


def shell(script: str, directory: Path, target: Target) -> None:
    """Run it as a person would, logged in."""
    logged_in = {
        "TIDEMILL_ENDPOINT": target.endpoint,
        "TIDEMILL_USERNAME": target.username,
        "TIDEMILL_PASSWORD": target.password,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment = {**os.environ, **logged_in}
    done = subprocess.run(
        ["sh", "-c", script], cwd=directory, env=environment, capture_output=True, check=False, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
