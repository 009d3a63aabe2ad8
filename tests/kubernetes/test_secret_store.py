"""The contract of SecretStores on a real cluster, with a service account that may do what the gateway may."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.contract.secret_stores.suite import SecretStoreContract
from tests.kubernetes.kubectl import Cluster, fresh
from tests.kubernetes.release import CHART, wait_until
from tidemill_common.errors import AccessDeniedError, InvalidInputError, UnavailableError
from tidemill_common.secrets import PLATFORM, SecretRecord, SecretStore
from tidemill_common.secrets.kubernetes import KubernetesAccess, open_kubernetes_secrets

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Place:
    """A namespace with service accounts like the chart's."""

    namespace: str
    gateway: KubernetesAccess
    bridge: KubernetesAccess


@pytest.fixture(scope="module")
def place(kubernetes: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    namespace, directory = fresh("chart"), tmp_path_factory.mktemp("access")
    roles = yaml.safe_load((CHART / "files" / "roles.yaml").read_text())["namespaced"]
    kubernetes.run("create", "namespace", namespace)
    try:
        for name in ("gateway", "storage-bridge"):
            _account(kubernetes, namespace, name, roles[name])
            _wait_for_rights(kubernetes, namespace, name)
        config = kubernetes.get_config()
        (directory / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
        found = {name: _access(kubernetes, namespace, name, config["server"], directory) for name in roles}
        yield Place(namespace, found["gateway"], found["storage-bridge"])
    finally:
        kubernetes.run("delete", "namespace", namespace, "--wait=false")


def _account(cluster: Cluster, namespace: str, name: str, rules: object) -> None:
    metadata = {"name": name, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io/v1"
    made = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": group, "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": group, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]},
    ]
    cluster.run("apply", "-f", "-", given=yaml.safe_dump_all(made))


def _wait_for_rights(cluster: Cluster, namespace: str, name: str) -> None:
    """They hold a moment after they were given."""
    asked = [("get", "secrets", namespace)]
    wait_until(lambda: cluster.allowed(f"{namespace}:{name}", asked), f"{name} may read Secrets")


def _access(cluster: Cluster, namespace: str, name: str, server: str, directory: Path) -> KubernetesAccess:
    token = directory / name
    if name != "scheduler":
        token.write_text(cluster.token(namespace, name))
    return KubernetesAccess(server=server, namespace=namespace, token_file=token, ca_file=directory / "ca.crt")


class TestKubernetes(SecretStoreContract):
    @pytest.fixture
    async def store(self, place: Place) -> AsyncIterator[SecretStore]:
        async with open_kubernetes_secrets(place.gateway) as store:
            yield store

    async def test_a_secret_has_the_labels_that_tell_whose_it_is(
        self, store: SecretStore, place: Place, kubernetes: Cluster
    ) -> None:
        await store.put("labelled", SecretRecord())
        found = kubernetes.get("secret", "tidemill-service-labelled", "-n", place.namespace)
        assert found["metadata"]["labels"]["tidemill.io/service"] == "labelled"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tidemill"
        assert list(found["data"]) == ["record.json"]

    async def test_a_record_that_is_too_large_is_refused_at_once(self, store: SecretStore) -> None:
        with pytest.raises(InvalidInputError):
            await store.put("large", SecretRecord(environment={"A": "x" * 1_100_000}))

    async def test_who_may_only_read_cannot_write(self, store: SecretStore, place: Place) -> None:
        await store.put("read-me", SecretRecord(environment={"A": "1"}))
        async with open_kubernetes_secrets(place.bridge) as readonly:
            assert await readonly.get("read-me") == SecretRecord(environment={"A": "1"})
            with pytest.raises(AccessDeniedError):
                await readonly.put("read-me", SecretRecord())
            with pytest.raises(AccessDeniedError):
                await readonly.remove("read-me")

    async def test_another_namespace_is_closed(self, place: Place) -> None:
        async with open_kubernetes_secrets(replace(place.gateway, namespace="kube-system")) as store:
            with pytest.raises(AccessDeniedError):
                await store.get(PLATFORM)

    async def test_a_server_that_is_away_is_worth_another_try(self, place: Place) -> None:
        async with open_kubernetes_secrets(replace(place.gateway, server="https://127.0.0.1:9")) as store:
            with pytest.raises(UnavailableError):
                await store.get("grey")
