"""Traefik and metrics-server as processes of this machine, which reaches the testbed's pods and Services.

Built by tests/testbed/kubernetes/addons.sh. What they add to the cluster (definitions, classes, an API service) is
removed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.kubernetes.waiting import until
from tidemill.platform.servers import free_port
from tidemill_common.errors import ConflictError, NotFoundError
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object

CACHE: Final = Path(os.environ.get("TIDEMILL_TEST_ADDONS", Path(__file__).parents[2] / ".cache"))
HOST: Final = os.environ.get("TESTBED_HOST_IP", "10.89.0.1")
"""This machine, as pods and the API server see it."""
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_API_SERVICES: Final = "/apis/apiregistration.k8s.io/v1/apiservices"
_BINDINGS: Final = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_ROLES: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


def program(name: str) -> Path:
    """A built addon; without it the test is skipped, in CI it fails."""
    path = CACHE / "bin" / name
    if not path.is_file():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"{name} is not built: tests/testbed/kubernetes/addons.sh .cache")
    return path


@contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """One that is ended."""
    with log.open("ab") as output:
        started = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@asynccontextmanager
async def traefik(api: KubernetesApi, kubeconfig: Path, namespace: str, directory: Path) -> AsyncIterator[str]:
    """Traefik for the HTTPRoutes and Ingresses of one namespace; its address.

    The Gateway is named `edge`. The class named as the namespace is for nginx's annotations, `…-traefik` for its own.
    """
    binary, port = program("traefik"), free_port()
    controllers = {namespace: f"tidemill.io/{namespace}", f"{namespace}-traefik": "traefik.io/ingress-controller"}
    async with definitions(api):
        await create(api, "/apis/gateway.networking.k8s.io/v1/gatewayclasses", _gateway_class(namespace))
        await create(
            api, f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways", _gateway(namespace, port)
        )
        for name, controller in controllers.items():
            await create(api, "/apis/networking.k8s.io/v1/ingressclasses", _ingress_class(name, controller))
        command = [
            str(binary),
            f"--entrypoints.web.address=127.0.0.1:{port}",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.namespaces={namespace}",
            "--providers.kubernetescrd=true",
            f"--providers.kubernetescrd.namespaces={namespace}",
            "--providers.kubernetesingress=true",
            f"--providers.kubernetesingress.namespaces={namespace}",
            f"--providers.kubernetesingress.ingressclass={namespace}-traefik",
            "--providers.kubernetesingressnginx=true",
            f"--providers.kubernetesingressnginx.watchnamespace={namespace}",
            f"--providers.kubernetesingressnginx.ingressclass={namespace}",
            f"--providers.kubernetesingressnginx.controllerclass={controllers[namespace]}",
            "--experimental.kubernetesIngressNGINX=true",
            "--log.level=INFO",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ]
        try:
            with process(command, directory / "traefik.log", {"KUBECONFIG": str(kubeconfig)}):
                yield f"http://127.0.0.1:{port}"
        finally:
            await api.delete(f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{namespace}")
            for name in controllers:
                await api.delete(f"/apis/networking.k8s.io/v1/ingressclasses/{name}")


@asynccontextmanager
async def definitions(api: KubernetesApi, directory: Path = CACHE / "crds") -> AsyncIterator[None]:
    """The kinds of a folder, by default of the Gateway API and of Traefik; those that were there before stay."""
    made: list[Object] = []
    try:
        for path in sorted(directory.glob("*.yaml")):
            for item in yaml.safe_load_all(path.read_text()):
                if item and await create(api, CRDS, item):
                    made.append(item)
        await until(lambda: _are_served(api, made), "the kinds are served", seconds=60)
        yield
    finally:
        for item in made:
            await api.delete(f"{CRDS}/{item['metadata']['name']}")


async def _are_served(api: KubernetesApi, definitions: Sequence[Object]) -> bool:
    """The API has a kind a moment after it was defined."""
    for spec in (item["spec"] for item in definitions):
        version = next(one["name"] for one in spec["versions"] if one["served"])
        if await _found(api, f"/apis/{spec['group']}/{version}/{spec['names']['plural']}") is None:
            return False
    return True


@asynccontextmanager
async def metrics_server(api: KubernetesApi, kubeconfig: Path, directory: Path) -> AsyncIterator[None]:
    """The metrics API, with figures of this node every few seconds.

    The testbed's API server has no certificate to show, so metrics-server lets anybody read figures.
    """
    binary, port = program("metrics-server"), free_port()
    files = {name: str(kubeconfig) for name in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")}
    command = [
        str(binary),
        *(f"--{name}={value}" for name, value in files.items()),
        f"--secure-port={port}",
        f"--cert-dir={directory / 'certificates'}",
        "--authentication-skip-lookup",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-use-node-status-port",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=8s",
    ]
    *objects, (path, registration) = _metrics_objects(port)
    try:
        for where, item in objects:
            await create(api, where, item)
        with process(command, directory / "metrics-server.log", {}):
            await _answers(api)
            await create(api, path, registration)
            try:
                yield
            finally:
                await api.delete(f"{path}/{registration['metadata']['name']}")
    finally:
        for where, item in reversed(objects):
            await api.delete(f"{where}/{item['metadata']['name']}")


async def _answers(api: KubernetesApi) -> None:
    """Wait until its address leads to it: the API server keeps its first connection, wherever that went.

    So would a client of ours: each try has a new one.
    """
    service = await api.get("/api/v1/namespaces/kube-system/services/expose-metrics")
    url = f"https://{service['spec']['clusterIP']}/apis/metrics.k8s.io/v1beta1"
    seen: list[object] = []

    async def answers() -> bool:
        async with httpx.AsyncClient(verify=False, timeout=5) as client:
            try:
                found = await client.get(url)
            except httpx.HTTPError as error:
                seen[:] = [repr(error)]
                return False
        seen[:] = [found.status_code, found.text[:200]]
        return found.status_code == 200

    await until(answers, f"{url} answers", seconds=60, show=lambda: str(seen))


def _metrics_objects(port: int) -> list[tuple[str, Object]]:
    figures = {"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list"]}
    role = {"rules": [figures, {"nonResourceURLs": ["/apis", "/apis/*", "/openapi/*"], "verbs": ["get"]}]}
    meta = {"name": "expose-metrics"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "expose-metrics"}
    anybody = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"}
    slice_meta = {**meta, "labels": {"kubernetes.io/service-name": "expose-metrics"}}
    endpoints = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [HOST]}],
        "ports": [{"name": "https", "port": port}],
    }
    spec: dict[str, Any] = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": "expose-metrics", "namespace": "kube-system", "port": 443},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    ports = [{"name": "https", "port": 443, "targetPort": port}]
    return [
        (_ROLES, {"metadata": meta, **role}),
        (_BINDINGS, {"metadata": meta, "roleRef": reference, "subjects": [anybody]}),
        ("/api/v1/namespaces/kube-system/services", {"metadata": meta, "spec": {"ports": ports}}),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", {"metadata": slice_meta, **endpoints}),
        (_API_SERVICES, {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec}),
    ]


def _gateway_class(namespace: str) -> Object:
    spec = {"controllerName": "traefik.io/gateway-controller"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": namespace},
        "spec": spec,
    }


def _gateway(namespace: str, port: int) -> Object:
    listener = {"name": "web", "protocol": "HTTP", "port": port, "allowedRoutes": {"namespaces": {"from": "Same"}}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": namespace},
        "spec": {"gatewayClassName": namespace, "listeners": [listener]},
    }


def _ingress_class(namespace: str, controller: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": namespace},
        "spec": {"controller": controller},
    }


async def create(api: KubernetesApi, path: str, item: Object) -> bool:
    """False: it was there. What is about to go, because another test removed it, is waited for."""
    name = f"{path}/{item['metadata']['name']}"

    async def is_made_or_stays() -> str:
        try:
            await api.create(path, item)
        except ConflictError:
            return "stays" if await stays(api, name) else ""
        return "made"

    return bool(await until(is_made_or_stays, f"{name} is created", seconds=60) == "made")


async def stays(api: KubernetesApi, path: str) -> bool:
    """Whether an object is there, and is not being deleted."""
    found = await _found(api, path)
    return found is not None and "deletionTimestamp" not in found["metadata"]


async def _found(api: KubernetesApi, path: str) -> Object | None:
    try:
        return await api.get(path)
    except NotFoundError:
        return None
