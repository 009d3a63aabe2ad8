"""Exposed Services behind a real controller (Traefik: HTTPRoute, its own and nginx's Ingress), scaled by real figures.

Traefik 3.6 reads nginx's annotations but for `rewrite-target`, so such an Ingress is tried with the whole path only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.kubernetes.addons import metrics_server, traefik
from tests.kubernetes.test_exposed import KUBECONFIG, SERVER, TOKEN, Cluster, cluster_with, exposure_of
from tidemill_common.contracts.exposed import DeploymentState
from tidemill_common.contracts.service import Service
from tidemill_common.errors import TidemillError
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.exposed.access import Doorkeeper
from tidemill_gateway.problems import add_handlers
from tidemill_gateway.routes.oscar.service_auth import ServiceAuthRoutes
from tidemill_gateway.server import listen, serving
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes.exposer import KubernetesExposer
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.api import open_api

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

BASE = "/system/services/web/exposed"
INDEX = "/tmp/www/index.html"
WHOLE = SERVER.replace(f"> {INDEX}", f"> {INDEX}; mkdir -p /tmp/www{BASE}; cp {INDEX} /tmp/www{BASE}/")


@dataclass
class Edge:
    """A cluster with Traefik in front."""

    cluster: Cluster
    url: str
    log: Path

    async def expose(self, kind: str, *, auth_url: str = "", **fields: Any) -> Exposure:
        """A Service by one kind of route, when it answers inside."""
        namespace = self.cluster.namespace
        exposed = ExposedSettings.model_validate(
            {
                "nginx": {"route": "ingress", "ingress_class": namespace},
                "traefik": {
                    "route": "ingress",
                    "ingress_class": f"{namespace}-traefik",
                    "ingress_controller": "traefik",
                },
                "httproute": {"route": "httproute", "gateway_name": "edge"},
            }[kind]
            | {"auth_url": auth_url}
        )
        exposer = KubernetesExposer(
            open_api(KUBECONFIG, None), self.cluster.settings(), exposed, on_change=lambda: None
        )
        await self.cluster.exposer.close()
        self.cluster.exposer = exposer
        await exposer.adopt()
        await self.cluster.put_record("web", KEY="s3cret")
        exposure = exposure_of(**fields)
        await exposer.ensure(exposure)
        await self.cluster.until_state(exposure, DeploymentState.READY)
        return exposure

    async def until_answered(self, path: str, status: int, **options: Any) -> httpx.Response:
        """Traefik follows the cluster within a moment."""
        seen: list[Any] = []

        async def answer() -> httpx.Response | None:
            async with httpx.AsyncClient(timeout=5) as client:
                try:
                    found = await client.get(f"{self.url}{path}", **options)
                except httpx.HTTPError as error:
                    seen[:] = [repr(error)]
                    return None
            seen[:] = [found.status_code, found.text[:200]]
            return found if found.status_code == status else None

        try:
            result: httpx.Response = await self.cluster.until(answer, f"{path} is answered {status}", seconds=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}\n{self.log.read_text()[-3000:]}") from error
        return result


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """A namespace with a Traefik of its own."""
    async with (
        cluster_with(ExposedSettings()) as cluster,
        traefik(cluster.api, KUBECONFIG, cluster.namespace, tmp_path) as url,
    ):
        yield Edge(cluster, url, tmp_path / "traefik.log")


@dataclass
class OneService:
    """What the gateway knows: web, by its name and its token."""

    service: Service

    def get_cached(self, name: str) -> Service | None:
        """By its name."""
        return self.service if name == self.service.name else None

    def service_of_token(self, name: str, token: str) -> Service | None:
        """By its token."""
        return self.get_cached(name) if token == TOKEN else None


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """The gateway's answer to proxies in front."""
    services = OneService(exposure_of(set_auth=True, auth_type="forward").service)
    app = FastAPI()
    add_handlers(app)
    doorkeeper = Doorkeeper(services, AdminCredentials(username="oscar", password="pw"))
    app.include_router(ServiceAuthRoutes(doorkeeper).router())
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener, drain=timedelta(seconds=1)):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["httproute", "traefik"])
async def test_a_route_strips_the_prefix(edge: Edge, kind: str) -> None:
    await edge.expose(kind)
    assert (await edge.until_answered(f"{BASE}/index.html", 200)).text.startswith("hello")


@pytest.mark.parametrize("kind", ["httproute", "traefik"])
async def test_a_forward_protected_route_asks_the_gateway_and_keeps_the_proof_in_a_cookie(
    edge: Edge, gateway: str, kind: str
) -> None:
    await edge.expose(kind, auth_url=gateway, set_auth=True, auth_type="forward")
    proof = {"Authorization": f"Bearer {TOKEN}"}
    answer = await edge.until_answered(f"{BASE}/", 200, headers=proof)
    assert answer.text.startswith("hello")
    await edge.until_answered(f"{BASE}/", 401)
    await edge.until_answered(f"{BASE}/", 401, headers={"Authorization": "Bearer wrong"})
    asked = await edge.until_answered(f"{BASE}/?token={TOKEN}", 200)
    cookie = asked.headers["set-cookie"].partition(";")[0]
    assert cookie == f"oscar_service_web_auth={TOKEN}"
    await edge.until_answered(f"{BASE}/", 200, headers={"Cookie": cookie})


async def test_nginxs_forward_protection_asks_the_gateway(edge: Edge, gateway: str) -> None:
    await edge.expose("nginx", auth_url=gateway, script=WHOLE, rewrite_target=True, set_auth=True, auth_type="forward")
    await edge.until_answered(f"{BASE}/", 200, headers={"Authorization": f"Bearer {TOKEN}"})
    await edge.until_answered(f"{BASE}/", 401)


@pytest.mark.parametrize("kind", ["httproute", "traefik", "nginx"])
async def test_with_rewrite_target_the_server_sees_the_whole_path_and_other_origins_may_read(
    edge: Edge, kind: str
) -> None:
    await edge.expose(kind, script=WHOLE, rewrite_target=True)
    origin = {"Origin": "https://elsewhere.example.org"}
    answer = await edge.until_answered(f"{BASE}/index.html", 200, headers=origin)
    assert answer.text.startswith("hello")
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("kind", ["httproute", "traefik", "nginx"])
async def test_a_protected_route_asks_for_the_service_and_its_token(edge: Edge, kind: str) -> None:
    await edge.expose(kind, script=WHOLE, rewrite_target=True, set_auth=True)
    await edge.until_answered(f"{BASE}/", 200, auth=("web", TOKEN))
    assert (await edge.until_answered(f"{BASE}/", 401)).headers["www-authenticate"].startswith("Basic")
    await edge.until_answered(f"{BASE}/", 401, auth=("web", "wrong"))


async def test_removal_takes_the_route_away(edge: Edge) -> None:
    exposure = await edge.expose("httproute", set_auth=True)
    await edge.until_answered(f"{BASE}/", 200, auth=("web", TOKEN))
    await edge.cluster.exposer.remove(exposure.name)
    await edge.until_answered(f"{BASE}/", 404)
    path = f"/apis/traefik.io/v1alpha1/namespaces/{edge.cluster.namespace}/middlewares"
    assert (await edge.cluster.api.get(path))["items"] == []


async def test_load_adds_instances_by_the_metrics_servers_figures(tmp_path: Path) -> None:
    busy = SERVER.replace("trap ", "while :; do :; done &\ntrap ")
    async with cluster_with(ExposedSettings()) as cluster, metrics_server(cluster.api, KUBECONFIG, tmp_path):
        await cluster.exposer.ensure(exposure_of(script=busy, cpu_threshold=50, max_scale=2))

        async def has_grown() -> bool:
            try:
                found = await cluster.get("autoscaling/v2:horizontalpodautoscalers/web-hpa")
            except TidemillError:
                return False
            return bool((found.get("status") or {}).get("desiredReplicas", 0) >= 2)

        try:
            await cluster.until(has_grown, "the autoscaler wants a second instance", seconds=240)
        except AssertionError as error:
            found = await cluster.get("autoscaling/v2:horizontalpodautoscalers/web-hpa")
            tail = (tmp_path / "metrics-server.log").read_text()[-3000:]
            raise AssertionError(f"{error}: {found.get('status')}\n{tail}") from error
