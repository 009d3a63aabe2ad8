"""The chart's NetworkPolicies let through what components are told to reach, what is public, and nothing else."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.kubernetes.network import Object, Pod, addressed, allows, pods_in
from tests.kubernetes.release import rendered

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]

_PLACE: Final = "place"
_WORKERS: Final = "place-services"
_OURS: Final = {"app.kubernetes.io/managed-by": "tidemill"}
WORKER: Final = Pod(
    name="worker", namespace=_WORKERS, labels={**_OURS, "app.kubernetes.io/component": "worker"}, ports={"any": 80}
)
EXPOSED: Final = Pod(
    name="exposed", namespace=_WORKERS, labels={**_OURS, "app.kubernetes.io/component": "exposed"}, ports={"any": 80}
)
"""A user's server: no more trusted than a stranger."""
STRANGER: Final = Pod(name="stranger", namespace="elsewhere", labels={}, ports={})
NEIGHBOUR: Final = Pod(name="neighbour", namespace=_PLACE, labels={"app": "another"}, ports={})
MONITOR: Final = Pod(name="monitor", namespace="monitoring", labels={}, ports={})
_OTHERS: Final = (WORKER, EXPOSED, STRANGER, NEIGHBOUR, MONITOR)
_FRONT: Final = {("gateway", "http"), ("storage-bridge", "http"), ("exposed", "any")}
_METRICS: Final = {("scheduler", "metrics"), ("nats", "monitor")}
_TO_BUS: Final = ("scheduler", "nats")
"""Workers are told the same address."""
Connection = tuple[str, str, str]
"""From a pod to a component's port."""


class Place:
    """What is installed."""

    def __init__(self, helm: str, **values: Any) -> None:
        self.objects: list[dict[str, Any]] = rendered(helm, **values)
        self.pods = pods_in(self.objects, _PLACE)
        self.policies: list[Object] = [item for item in self.objects if item["kind"] == "NetworkPolicy"]

    def made(self) -> set[Connection]:
        """Connections of our own: by the addresses that each is given."""
        found = {
            (pod.name, component, port)
            for pod in self.pods
            for component, port in addressed(pod.told, self.objects, _PLACE)
        } | self._to_store()
        found |= {("worker", component, port) for name, component, port in found if (name, component) == _TO_BUS}
        if "peers" in self._pod("nats").ports:
            found.add(("nats", "nats", "peers"))
        return found

    def allowed(self) -> set[Connection]:
        """Everything that may come in anywhere."""
        return {
            (source.name, target.name, port)
            for source in (*self.pods, *_OTHERS)
            for target in (*self.pods, WORKER, EXPOSED)
            for port in target.ports
            if allows(self.policies, source, target, port)
        }

    def everybody_to(self, *targets: tuple[str, str]) -> set[Connection]:
        """From all there are."""
        return {(source.name, *target) for source in (*self.pods, *_OTHERS) for target in targets}

    def _to_store(self) -> set[Connection]:
        """By the record that these three read."""
        record = next(item for item in self.objects if item["metadata"]["name"] == "tidemill-platform")
        endpoint = json.loads(record["stringData"]["record.json"])["providers"]["minio.default"]["endpoint"]
        targets = list(addressed(endpoint, self.objects, _PLACE))
        assert targets
        return {(name, *target) for name in ("gateway", "storage-bridge", "worker") for target in targets}

    def _pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)


def test_by_default_the_bus_and_the_filer_are_reached_by_those_that_need_them_alone(helm: str) -> None:
    place = Place(helm)
    public = place.everybody_to(*_FRONT, *_METRICS, ("store", "s3"))
    assert place.allowed() == place.made() | public
    assert {name for name, *target in place.allowed() if target == ["nats", "nats"]} == {
        "gateway",
        "scheduler",
        "storage-bridge",
        "streams",
        "worker",
    }
    assert ("storage-bridge", "store", "filer-grpc") in place.made()


def test_with_peers_only_servers_of_the_bus_reach_each_other(helm: str) -> None:
    place = Place(helm, nats={"replicas": 3})
    reached = {connection for connection in place.allowed() if connection[2] == "peers"}
    assert reached == {("nats", "nats", "peers")}


def test_metrics_and_the_store_can_be_kept_to_some(helm: str) -> None:
    neighbour = {"podSelector": {"matchLabels": {"app": "another"}}}
    policy = {"metricsNamespaceLabels": {"name": "monitoring"}, "storeFrom": [neighbour]}
    place = Place(helm, networkPolicy=policy)
    extra = {("monitor", *target) for target in _METRICS} | {("neighbour", "store", "s3")}
    assert place.allowed() == place.made() | place.everybody_to(*_FRONT) | extra


def test_nobody_calls_a_worker(helm: str) -> None:
    assert not [connection for connection in Place(helm).allowed() if connection[1] == "worker"]


def test_a_connection_that_no_policy_names_would_be_seen(helm: str) -> None:
    place = Place(helm)
    place.policies = [policy for policy in place.policies if policy["metadata"]["name"] != "tidemill-store"]
    assert ("exposed", "store", "filer-grpc") in place.allowed()
    place = Place(helm)
    for policy in place.policies:
        policy["spec"]["ingress"][:1] = []
    assert not place.made() <= place.allowed()
