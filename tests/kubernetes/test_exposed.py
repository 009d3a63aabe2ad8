"""Exposed Services in a real cluster: OSCAR's objects, what they do, and what is told of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kubernetes.waiting import until
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import DeploymentState, Wish
from tidemill_common.contracts.service import Expose, Service
from tidemill_common.errors import NotFoundError
from tidemill_common.secrets import SecretRecord
from tidemill_scheduler.exposing.domain import Exposure, state_of
from tidemill_scheduler.exposing.kubernetes.exposer import KubernetesExposer
from tidemill_scheduler.exposing.kubernetes.paths import path_of
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object, open_api
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings, PullPolicy, UserContainer

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

KUBECONFIG = Path(os.environ.get("KUBECONFIG", ""))
IMAGE = os.environ.get("TIDEMILL_TEST_USER_IMAGE", "localhost/busybox:1")
TOKEN = "ab" * 32
SERVER = """#!/bin/sh
mkdir -p /tmp/www/cgi-bin
echo "$GREETING $KEY $OSCAR_SERVICE_TOKEN" > /tmp/www/index.html
echo "serving as $OSCAR_SERVICE_NAME"
httpd -f -p 8000 -h /tmp/www &
trap 'kill $!; exit' TERM  # as process 1 httpd would ignore it
wait
"""


@dataclass
class Cluster:
    """One namespace, and an exposer in it."""

    api: KubernetesApi
    namespace: str
    exposer: KubernetesExposer
    changed: asyncio.Event

    def settings(self) -> KubernetesSettings:
        """Of everything in it."""
        return settings_of(self.namespace)

    async def get(self, path: str) -> Object:
        """An object of this namespace; `apps/v1/deployments/x`."""
        version, _, rest = path.partition(":")
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        return await self.api.get(f"{root}/namespaces/{self.namespace}/{rest}")

    async def put_record(self, name: str, **environment: str) -> None:
        """As the gateway does."""
        record = SecretRecord(environment={"OSCAR_SERVICE_TOKEN": TOKEN, **environment})
        data = {"record.json": base64.b64encode(record.model_dump_json().encode()).decode()}
        meta = {"name": f"tidemill-service-{name}", "namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
        await self.api.apply(path_of(secret), secret, manager="gateway")

    async def until(
        self, condition: Callable[[], Any], what: str, *, seconds: float = 120, show: Callable[[], str] = lambda: ""
    ) -> Any:
        """Wait for a condition, plain or a coroutine's."""
        return await until(condition, what, seconds=seconds, show=show)

    def state(self, exposure: Exposure) -> DeploymentState:
        """What would be told."""
        return state_of(exposure, self.exposer.observe(exposure.name), None, now=datetime.now(UTC)).state

    async def until_state(self, exposure: Exposure, state: DeploymentState) -> None:
        """Wait for it."""
        await self.until(
            lambda: self.state(exposure) is state,
            f"{exposure.name} is {state}",
            show=lambda: str(self.exposer.observe(exposure.name)),
        )

    async def until_failed(self, exposure: Exposure, word: str) -> None:
        """Wait until it fails for this reason; in a new namespace there may be another one at first."""
        await self.until(
            lambda: self.state(exposure) is DeploymentState.FAILED and word in self._reason(exposure),
            f"{exposure.name} fails for {word}",
            show=lambda: str(self.exposer.observe(exposure.name)),
        )

    def _reason(self, exposure: Exposure) -> str:
        return self.exposer.observe(exposure.name).reason

    async def answer(self, url: str) -> httpx.Response:
        """What a server says, once its address leads to it: the cluster's proxies follow a moment after it is ready.

        Until then nobody answers, or whoever is beyond this machine's default route.
        """
        seen: list[object] = []

        async def asked() -> httpx.Response | None:
            try:
                async with httpx.AsyncClient(timeout=10) as client:
                    found = await client.get(url)
            except httpx.TransportError as error:
                seen[:] = [repr(error)]
                return None
            seen[:] = [found.status_code, found.text[:200]]
            return found if found.is_success else None

        found: httpx.Response = await self.until(asked, f"{url} is answered", show=lambda: str(seen))
        return found


def settings_of(namespace: str) -> KubernetesSettings:
    """For tests: images are there."""
    return KubernetesSettings(
        namespace=namespace, kubeconfig=KUBECONFIG, user=UserContainer(pull_policy=PullPolicy.IF_NOT_PRESENT)
    )


def exposure_of(name: str = "web", *, script: str = SERVER, image: str = IMAGE, **expose: Any) -> Exposure:
    """An exposed Service of one busybox."""
    block = Expose(**{"api_port": (8000,), "min_scale": 1, "max_scale": 2, **expose})
    service = Service(
        name=ServiceName(name),
        image=image,
        script=script,
        cpu="0.1",
        memory="64Mi",
        variables={"GREETING": "hello $(OSCAR_SERVICE_NAME)"},
        secret_names=("KEY",),
        labels={"team": "blue"},
        expose=block,
    )
    return Exposure(service=service, expose=block, revision=1)


@contextlib.asynccontextmanager
async def cluster_with(exposed: ExposedSettings) -> AsyncIterator[Cluster]:
    """A namespace of this test's own, removed with it."""
    namespace, changed = f"expose-{secrets.token_hex(4)}", asyncio.Event()
    async with open_api(KUBECONFIG, None) as api:
        await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        exposer = KubernetesExposer(open_api(KUBECONFIG, None), settings_of(namespace), exposed, on_change=changed.set)
        cluster = Cluster(api, namespace, exposer, changed)
        try:
            await exposer.adopt()
            yield cluster
        finally:
            await cluster.exposer.close()
            await api.delete(f"/api/v1/namespaces/{namespace}")


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """The gateway leads to Services."""
    async with cluster_with(ExposedSettings()) as found:
        yield found


async def test_a_server_answers_and_has_the_users_variables_and_secrets(cluster: Cluster) -> None:
    await cluster.put_record("web", KEY="s3cret")
    exposure = exposure_of()
    await cluster.exposer.ensure(exposure)
    await cluster.until_state(exposure, DeploymentState.READY)
    (url,) = cluster.exposer.observe(exposure.name).urls
    answer = await cluster.answer(f"{url}/")
    assert answer.text == f"hello $(OSCAR_SERVICE_NAME) s3cret {TOKEN}\n"
    lines = await cluster.until(lambda: cluster.exposer.logs(exposure.name, 10), "its log")
    assert lines[0].text == "serving as web"
    assert lines[0].at is not None


async def test_the_objects_are_oscars(cluster: Cluster) -> None:
    await cluster.put_record("web", KEY="s3cret")
    await cluster.exposer.ensure(exposure_of(api_port=(8000, 9000), health_path="/ok", rewrite_target=True))
    deployment = await cluster.get("apps/v1:deployments/web-dpl")
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"]["app"] == "oscar-svc-exp-web"
    assert pod["metadata"]["labels"]["oscar.grycap/user-service"] == "true"
    assert pod["metadata"]["labels"]["team"] == "blue"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "-c", "/oscar/config/script.sh"]
    assert container["startupProbe"]["httpGet"]["path"] == "/system/services/web/exposed/ok"
    figures = {
        name: [container[name].get(field) for field in ("initialDelaySeconds", "periodSeconds", "failureThreshold")]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert figures == {
        "startupProbe": [None, 10, 18],
        "readinessProbe": [10, 5, 3],
        "livenessProbe": [60, 10, 12],
    }
    assert pod["spec"]["automountServiceAccountToken"] is False
    service = await cluster.get("v1:services/web-svc")
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(80, 8000), (81, 9000)]
    autoscaler = await cluster.get("autoscaling/v2:horizontalpodautoscalers/web-hpa")
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (1, 2)
    assert autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    assert (await cluster.get("v1:configmaps/web"))["data"]["script.sh"] == SERVER


async def test_default_command_runs_the_images_own_program(cluster: Cluster) -> None:
    await cluster.exposer.ensure(exposure_of(default_command=True))
    deployment = await cluster.get("apps/v1:deployments/web-dpl")
    assert "command" not in deployment["spec"]["template"]["spec"]["containers"][0]


async def test_stop_takes_the_pods_away_and_start_brings_as_many_back(cluster: Cluster) -> None:
    running = exposure_of(min_scale=2, max_scale=3)
    await cluster.exposer.ensure(running)
    await cluster.until_state(running, DeploymentState.READY)
    stopped = replace(running, wish=Wish(stopped=True), wish_revision=1)
    await cluster.exposer.ensure(stopped)
    deployment = await cluster.get("apps/v1:deployments/web-dpl")
    assert deployment["spec"]["replicas"] == 0
    assert deployment["metadata"]["annotations"]["oscar.grycap.io/previous-replicas"] == "2"
    assert deployment["metadata"]["annotations"]["oscar.grycap.io/stopped"] == "true"
    with pytest.raises(NotFoundError):
        await cluster.get("autoscaling/v2:horizontalpodautoscalers/web-hpa")
    await cluster.until_state(stopped, DeploymentState.STOPPED)
    started = replace(running, wish=Wish(), wish_revision=2)
    await cluster.exposer.ensure(started)
    deployment = await cluster.get("apps/v1:deployments/web-dpl")
    assert deployment["spec"]["replicas"] == 2
    assert "oscar.grycap.io/stopped" not in deployment["metadata"].get("annotations", {})
    await cluster.get("autoscaling/v2:horizontalpodautoscalers/web-hpa")


async def test_the_autoscalers_number_survives_a_new_definition(cluster: Cluster) -> None:
    first = exposure_of(max_scale=5)
    await cluster.exposer.ensure(first)
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/web-dpl/scale"
    scale = await cluster.api.get(path)
    scale["spec"]["replicas"] = 3
    del scale["metadata"]["resourceVersion"]  # whatever the deployment's controller wrote in between
    await cluster.api.replace(path, scale)
    await cluster.exposer.ensure(replace(first, revision=2))
    assert (await cluster.get("apps/v1:deployments/web-dpl"))["spec"]["replicas"] == 3


async def test_a_restart_replaces_the_pods(cluster: Cluster) -> None:
    first = exposure_of()
    await cluster.exposer.ensure(first)
    await cluster.until_state(first, DeploymentState.READY)
    (before,) = cluster.exposer._pods["web"]
    wish = Wish(restarted_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    await cluster.exposer.ensure(replace(first, wish=wish, wish_revision=1))
    await cluster.until(
        lambda: cluster.exposer._pods["web"] and before not in cluster.exposer._pods["web"], "another pod runs"
    )
    template = (await cluster.get("apps/v1:deployments/web-dpl"))["spec"]["template"]
    assert template["metadata"]["annotations"]["oscar.grycap.io/restarted-at"] == "2026-01-02T03:04:05+00:00"


async def test_a_server_that_ends_is_told_with_its_exit_code(cluster: Cluster) -> None:
    exposure = exposure_of(script="#!/bin/sh\nexit 7\n")
    await cluster.exposer.ensure(exposure)
    await cluster.until_failed(exposure, "exit code 7")


async def test_an_image_that_is_not_there_is_told(cluster: Cluster) -> None:
    exposure = exposure_of(image="localhost:1/none:1")
    await cluster.exposer.ensure(exposure)
    await cluster.until_failed(exposure, "Image")


async def test_removal_leaves_nothing_and_another_scheduler_finds_what_is_there(cluster: Cluster) -> None:
    await cluster.put_record("web", KEY="s3cret")
    await cluster.exposer.ensure(exposure_of())
    other = KubernetesExposer(open_api(KUBECONFIG, None), cluster.settings(), ExposedSettings(), on_change=lambda: None)
    try:
        await other.adopt()
        assert other.services() == {"web"}
        await other.remove(ServiceName("web"))
    finally:
        await other.close()

    async def is_empty() -> bool:
        for kind in (
            "apps/v1:deployments",
            "v1:services",
            "v1:pods",
            "autoscaling/v2:horizontalpodautoscalers",
        ):
            if (await cluster.get(kind))["items"]:
                return False
        left = {item["metadata"]["name"] for item in (await cluster.get("v1:secrets"))["items"]}
        return left == {"tidemill-service-web"}

    await cluster.until(is_empty, "nothing is left")


async def test_a_deployment_deleted_by_hand_comes_back(cluster: Cluster) -> None:
    exposure = exposure_of()
    await cluster.exposer.ensure(exposure)
    await cluster.until(lambda: "web" in cluster.exposer._deployments, "it is seen")
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/web-dpl"
    first = (await cluster.api.get(path))["metadata"]["uid"]
    await cluster.api.delete(path)

    async def is_another() -> bool:
        await cluster.exposer.ensure(exposure)
        with contextlib.suppress(NotFoundError):
            return bool((await cluster.api.get(path))["metadata"]["uid"] != first)
        return False

    await cluster.until(is_another, "it is made anew")


async def test_a_node_port_is_the_one_that_was_asked_for(cluster: Cluster) -> None:
    await cluster.exposer.ensure(exposure_of(nodePort=(31987,)))
    service = await cluster.get("v1:services/web-svc")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"][0]["nodePort"] == 31987


async def test_what_was_deleted_while_nobody_led_is_forgotten(cluster: Cluster) -> None:
    exposure = exposure_of()
    await cluster.exposer.ensure(exposure)
    await cluster.until(lambda: "web" in cluster.exposer._deployments, "it is seen")
    await cluster.exposer.release()
    await cluster.api.delete(f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/web-dpl")
    await cluster.exposer.adopt()
    assert cluster.exposer.services() == set()
    assert cluster.exposer.observe(exposure.name).active == 0
