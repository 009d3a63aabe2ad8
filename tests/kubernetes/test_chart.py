"""What the chart makes of values: objects that the API server takes, and settings that the components read."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

import tidemill_gateway.settings
import tidemill_scheduler.settings
import tidemill_storage_bridge.settings
from tests.kubernetes import values_table
from tests.kubernetes.kubectl import Cluster, fresh
from tests.kubernetes.release import CHART, rendered
from tidemill_common.bus import preparing
from tidemill_common.secrets import S3Credentials, SecretRecord

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

SETTINGS: dict[str, tuple[str, type[BaseSettings]]] = {
    "gateway": ("TIDEMILL_GATEWAY_", tidemill_gateway.settings.Settings),
    "storage-bridge": ("TIDEMILL_BRIDGE_", tidemill_storage_bridge.settings.Settings),
    "scheduler": ("TIDEMILL_SCHEDULER_", tidemill_scheduler.settings.Settings),
    "streams": ("TIDEMILL_PREPARE_", preparing.Settings),
}
POSTGRESQL = "postgresql+asyncpg://me:secret@db.example/tidemill"
VALUE_SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "production": {
        "gateway": {
            "replicas": 2,
            "ingress": {"enabled": True, "host": "tide.example", "className": "nginx", "tlsSecret": "tide-tls"},
        },
        "database": {"url": POSTGRESQL},
        "storageBridge": {"replicas": 2},
        "scheduler": {"replicas": 2, "pool": {"cpuMillicores": 64000, "memoryBytes": 274877906944}},
        "nats": {"replicas": 3},
        "bus": {"durability": "power", "events_max_age": "P3D"},
        "workers": {
            "kueue": True,
            "nodeSelector": {"pool": "batch"},
            "tolerations": [{"key": "batch", "operator": "Exists"}],
            "imagePullSecrets": ["registry"],
            "settings": {"user": {"request_ratio": 0.5}, "ttl": "PT1M"},
            "environment": {"TIDEMILL_SUPERVISOR_LOGS__KEPT_BYTES": "1000"},
        },
        "networkPolicy": {"metricsNamespaceLabels": {"name": "monitoring"}, "storeFrom": [{"podSelector": {}}]},
        "imagePullSecrets": ["ours"],
        "priorityClassName": "system-cluster-critical",
    },
    "everything outside": {
        "nats": {"enabled": False, "external": {"url": "tls://nats.example:4222", "existingSecret": "bus"}},
        "store": {
            "kind": "external",
            "external": {"endpoint": "https://s3.example", "accessKey": "a", "secretKey": "b"},
        },
        "database": {"existingSecret": "database", "existingSecretKey": "dsn"},
        "rbac": {"nodes": False, "admissionPolicy": False},
        "scheduler": {"pool": {"cpuMillicores": 4000, "memoryBytes": 8589934592}},
        "workers": {"namespace": "elsewhere", "createNamespace": False},
        "networkPolicy": {"enabled": False},
    },
    "secrets of one's own": {"existingSecret": "mine", "store": {"existingPlatformSecret": True}},
}


@pytest.fixture(scope="module", params=VALUE_SETS.values(), ids=list(VALUE_SETS))
def objects(request: pytest.FixtureRequest, helm: str) -> list[dict[str, Any]]:
    return rendered(helm, **request.param)


def containers(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(component, pod's spec, container) of everything that runs."""
    for found in objects:
        template = found.get("spec", {}).get("template")
        if isinstance(template, dict):
            component = template["metadata"]["labels"]["app.kubernetes.io/component"]
            spec = template["spec"]
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                yield component, spec, container


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """Its environment; what comes from a Secret is a placeholder of the right kind."""
    return {one["name"]: one.get("value", POSTGRESQL) for one in container["env"]}


def test_components_read_every_variable_that_the_chart_sets(
    objects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for component, _, container in containers(objects):
        if component not in SETTINGS or container["name"].startswith("wait-for-"):
            continue
        prefix, settings = SETTINGS[component]
        with monkeypatch.context() as patch:
            for name, value in variables(container).items():
                assert name.startswith(prefix), name
                patch.setenv(name, value)
            _check_read(settings(), variables(container), prefix)
        seen.add(component)
    assert seen == set(SETTINGS)


def _check_read(settings: BaseSettings, given: Mapping[str, str], prefix: str) -> None:
    for name in given:
        found: Any = settings
        for part in name.removeprefix(prefix).lower().split("__"):
            assert hasattr(found, part), f"{name} is read by nobody"
            found = getattr(found, part)


def test_every_container_keeps_to_the_restricted_pod_security_standard(objects: list[dict[str, Any]]) -> None:
    for component, spec, container in containers(objects):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], component
        assert not security["allowPrivilegeEscalation"], component
        assert security["capabilities"] == {"drop": ["ALL"]}, component
        assert spec["securityContext"]["runAsNonRoot"], component
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, component
        assert spec["enableServiceLinks"] is False, component
        assert container["resources"]["limits"]["memory"], component


def test_only_who_talks_to_the_api_server_has_a_token(objects: list[dict[str, Any]]) -> None:
    with_token = {
        component for component, spec, _ in containers(objects) if spec.get("automountServiceAccountToken", True)
    }
    assert with_token <= {"gateway", "storage-bridge", "scheduler", "keys"}


def test_no_password_stands_in_a_pod(objects: list[dict[str, Any]]) -> None:
    known = {
        value
        for found in objects
        if found["kind"] == "Secret"
        for name, value in found["stringData"].items()
        if name not in {"s3-access-key"}
    }
    pods = json.dumps([spec for _, spec, _ in containers(objects)])
    assert not [value for value in known if value in pods]


def test_every_pod_mounts_no_bus_identity_but_its_own(objects: list[dict[str, Any]]) -> None:
    for component, spec, _ in containers(objects):
        mounted = [
            item["key"]
            for volume in spec.get("volumes", [])
            if volume["name"] == "bus"
            for item in volume["secret"]["items"]
        ]
        own = {"storage-bridge": "bridge", "streams": "operator"}.get(component, component)
        allowed = {f"bus-{own}.creds"} | ({"bus-workers.json"} if component == "scheduler" else set())
        assert set(mounted) <= allowed, component


def test_the_platforms_record_is_one_that_components_read(helm: str) -> None:
    (found,) = [one for one in rendered(helm) if one["metadata"]["name"] == "tidemill-platform"]
    record = SecretRecord.model_validate_json(found["stringData"]["record.json"])
    fields = S3Credentials.model_validate(record.providers["minio.default"])
    assert fields.endpoint == "http://tidemill-store.place.svc.cluster.local:8333"
    keys = next(one for one in rendered(helm) if one["metadata"]["name"] == "tidemill-credentials")
    assert (
        json.loads(keys["stringData"]["s3.json"])["identities"][0]["credentials"][0]["accessKey"] == fields.access_key
    )
    assert fields.secret_key


def test_two_gateways_have_a_disruption_budget_and_never_stop_together(helm: str) -> None:
    made = rendered(helm, **VALUE_SETS["production"])
    budgets = {one["metadata"]["name"] for one in made if one["kind"] == "PodDisruptionBudget"}
    assert budgets == {f"tidemill-{name}" for name in ("gateway", "storage-bridge", "scheduler", "nats")}
    (gateway,) = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "tidemill-gateway"]
    assert gateway["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}


def test_sqlite_is_never_opened_by_two_gateways(helm: str) -> None:
    with pytest.raises(ValueError, match="needs PostgreSQL"):
        rendered(helm, gateway={"replicas": 2})
    (gateway,) = [
        one for one in rendered(helm) if one["kind"] == "Deployment" and one["metadata"]["name"] == "tidemill-gateway"
    ]
    assert gateway["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gateway": {"replica": 2}}, "additional properties 'replica' not allowed"),
        ({"nats": {"replicas": 2}}, "nats/replicas"),
        ({"nats": {"enabled": False}}, "nats.external.url is needed"),
        ({"store": {"kind": "external"}}, "needs store.external.accessKey"),
        ({"rbac": {"nodes": False}}, "needs scheduler.pool"),
        ({"workers": {"namespace": "place"}}, "must differ from the release's"),
        ({"existingSecret": "mine"}, "needs store.existingPlatformSecret"),
        ({"telemetry": {"logLevel": "LOUD"}}, "logLevel"),
    ],
)
def test_values_that_cannot_work_are_refused_with_what_to_change(helm: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        rendered(helm, **values)


def test_service_monitors_name_ports_that_are_there(helm: str) -> None:
    made = rendered(helm, "--api-versions", "monitoring.coreos.com/v1", serviceMonitor={"enabled": True})
    monitors = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] in {"ServiceMonitor", "PodMonitor"}}
    assert set(monitors) == {"tidemill-gateway", "tidemill-storage-bridge", "tidemill-scheduler"}
    ports = {port["name"] for _, _, container in containers(made) for port in container.get("ports", [])}
    for spec in monitors.values():
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        assert endpoint["port"] in ports


def test_a_route_of_the_gateway_api_leads_to_the_gateway(helm: str) -> None:
    route = {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["tide.example"]}
    made = rendered(helm, gateway={"httpRoute": route})
    (found,) = [one for one in made if one["kind"] == "HTTPRoute"]
    assert found["spec"]["rules"][0]["backendRefs"] == [{"name": "tidemill-gateway", "port": 80}]


def test_every_value_is_described_and_in_the_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    values, schema = yaml.safe_load(text), json.loads((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    assert values_table.page() == values_table.PAGE.read_text(), "python -m tests.kubernetes.values_table"


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_the_api_server_takes_every_object_knows_every_field_and_warns_of_no_pod(
    kubernetes: Cluster, helm: str, values: dict[str, Any]
) -> None:
    place, made = fresh("chart"), rendered(helm, **values)
    namespaces = {found["metadata"].get("namespace", "place") for found in made}
    spaces = {name: fresh("chart") if name != "place" else place for name in namespaces}
    for name in spaces.values():
        kubernetes.run("create", "namespace", name)
        kubernetes.run("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
    try:
        for found in made:
            if found["kind"] == "Namespace":
                continue
            found["metadata"]["namespace"] = spaces[found["metadata"].get("namespace", "place")]
            dry = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
            done = kubernetes.run(*dry, given=json.dumps(found))
            assert "violate PodSecurity" not in done.stderr, done.stderr
    finally:
        kubernetes.run("delete", "namespace", *spaces.values(), "--wait=false")


def test_helm_has_nothing_to_complain_of(helm: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", "--kube-version", "1.34.0", str(CHART)], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout
