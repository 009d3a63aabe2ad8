"""Two of everything on one PostgreSQL and three servers of the bus: any of them may go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kubernetes.kubectl import Cluster
from tests.kubernetes.release import NAME, Release, release
from tests.scenarios import Target
from tests.scenarios.files import COPY, folder
from tests.scenarios.target import fresh

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

IMAGE = os.environ.get("TIDEMILL_TEST_POSTGRESQL_IMAGE", "localhost/testbed/postgresql:test")
PASSWORD = "of-this-test-alone"


def database(namespace: str) -> Iterator[dict[str, object]]:
    """A PostgreSQL without a volume."""
    labels = {"app": "postgresql"}
    environment = {
        "POSTGRES_DB": "tidemill",
        "POSTGRES_USER": "tidemill",
        "POSTGRES_PASSWORD_FILE": "/run/keys/password",
    }
    container = {
        "name": "postgresql",
        "image": IMAGE,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
        "volumeMounts": [{"name": "keys", "mountPath": "/run/keys"}],
    }
    volumes = [{"name": "keys", "secret": {"secretName": "postgresql"}}]
    url = f"postgresql+asyncpg://tidemill:{PASSWORD}@postgresql.{namespace}.svc.cluster.local/tidemill"
    metadata = {"name": "postgresql", "namespace": namespace, "labels": labels}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    keys = {"password": PASSWORD, "url": url}
    yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys}
    spec = {"containers": [container], "volumes": volumes}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 5432}]},
    }


@pytest.fixture(scope="module")
def replicas(kubernetes: Cluster, helm: str) -> Iterator[Release]:
    made = release(
        kubernetes,
        helm,
        before=lambda namespace: _provide_database(kubernetes, namespace),
        gateway={"replicas": 2},
        storageBridge={"replicas": 2},
        scheduler={"replicas": 2},
        nats={"replicas": 3},
        database={"existingSecret": "postgresql"},
    )
    with made as installed:
        yield installed


def _provide_database(cluster: Cluster, namespace: str) -> None:
    for item in database(namespace):
        cluster.run("apply", "-f", "-", given=json.dumps(item))
    cluster.run("wait", "-n", namespace, "pod/postgresql", "--for=condition=Ready", "--timeout=120s")


def pods(cluster: Cluster, made: Release, component: str) -> list[str]:
    """Names of a component's pods that run."""
    chosen = f"app.kubernetes.io/component={component}"
    found = cluster.get("pods", "-n", made.namespace, "-l", chosen)["items"]
    return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])


def through(made: Release, pod: str) -> Target:
    """The same platform, through one gateway."""
    return replace(made.target, endpoint=f"http://127.0.0.1:{made.forward(f'pod/{pod}', 8080)}")


def test_what_one_gateway_was_told_the_other_knows(replicas: Release, kubernetes: Cluster) -> None:
    first, second = (through(replicas, pod) for pod in pods(kubernetes, replicas, "gateway"))
    name = fresh("k8s", "two")
    token = first.apply(name, 'echo "heard $(cat "$INPUT_FILE_PATH")"\n')
    second.wait(lambda: second.patiently("GET", f"/system/services/{name}").status_code == 200, "the other knows it")

    assert [one.call(name, token, b"you").text for one in (first, second)] == ["heard you\n"] * 2
    identity = first.job(name, token, b"later")
    assert second.ended(identity)["phase"] == "Succeeded"


def test_files_are_processed_while_one_of_each_goes(replicas: Release, kubernetes: Cluster) -> None:
    name = fresh("k8s", "gone")
    target = through(replicas, pods(kubernetes, replicas, "gateway")[0])
    target.apply(name, COPY, input=[folder(f"{name}/in")], output=[folder(f"{name}/out")])
    wanted = {f"{name}/in/{number:02d}.txt": str(number).encode() for number in range(12)}
    half = len(wanted) // 2
    target.put_all(dict(list(wanted.items())[:half]))
    for component, index in (("scheduler", 0), ("storage-bridge", 0), ("nats", 2), ("gateway", 1)):
        victim = pods(kubernetes, replicas, component)[index]
        kubernetes.run("delete", "pod", victim, "-n", replicas.namespace, "--grace-period=0", "--force", "--wait=false")
    target.put_all(dict(list(wanted.items())[half:]))

    rows = target.all_ended(name, len(wanted))

    assert [row["phase"] for row in rows] == ["Succeeded"] * len(wanted), rows
    assert target.list(f"{name}/out/") == [path.replace("/in/", "/out/") for path in wanted]
    replicas.wait()
    assert len(pods(kubernetes, replicas, "gateway")) == 2
    assert NAME in replicas.cluster.run("get", "pdb", "-n", replicas.namespace).stdout
