"""The smaller areas of OSCAR's API: who may call, and what each path answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_common.secrets import PLATFORM
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.routes.oscar.status import this_machine
from tidemill_gateway.routes.oscar.ui import UiRoutes

PROTECTED = [
    ("GET", "/system/info"),
    ("GET", "/system/config"),
    ("PUT", "/system/config"),
    ("GET", "/system/services"),
    ("POST", "/system/services"),
    ("PUT", "/system/services"),
    ("GET", "/system/services/a"),
    ("DELETE", "/system/services/a"),
    ("GET", "/system/services/a/deployment"),
    ("GET", "/system/services/a/deployment/logs"),
    ("POST", "/system/services/a/stop"),
    ("GET", "/system/federation/a"),
    ("GET", "/system/buckets"),
    ("POST", "/system/buckets"),
    ("PUT", "/system/buckets"),
    ("GET", "/system/buckets/a"),
    ("DELETE", "/system/buckets/a"),
    ("POST", "/system/buckets/a/presign"),
    ("GET", "/system/logs"),
    ("GET", "/system/logs/a"),
    ("DELETE", "/system/logs/a"),
    ("GET", "/system/logs/a/b"),
    ("DELETE", "/system/logs/a/b"),
    ("GET", "/system/status"),
    ("GET", "/system/metrics"),
    ("GET", "/system/metrics/breakdown"),
    ("GET", "/system/metrics/a"),
    ("GET", "/system/quotas/user"),
    ("GET", "/system/quotas/user/a"),
    ("PUT", "/system/quotas/user/a"),
]


@pytest.mark.parametrize("authorization", [None, "Basic b3NjYXI6d3Jvbmc=", "Basic ???", f"Bearer {'0' * 64}"])
async def test_only_the_admin_passes(anyone: httpx.AsyncClient, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for method, path in PROTECTED:
        answer = await anyone.request(method, path, headers=headers)

        assert (answer.status_code, answer.content) == (401, b""), (method, path)
        assert answer.headers["www-authenticate"] == 'Basic realm="Authorization Required"'


async def test_health_needs_no_credentials(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/health")

    assert (answer.status_code, answer.text) == (200, "Ok")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/system/volumes"), ("POST", "/system/volumes"), ("DELETE", "/system/services"), ("HEAD", "/health")],
)
async def test_unknown_paths_and_methods_are_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == 404
    if method != "HEAD":
        assert answer.text == "404 page not found"


async def test_info_is_of_a_version_that_all_clients_understand(client: httpx.AsyncClient) -> None:
    info = (await client.get("/system/info")).json()

    digits = tuple(int(part) for part in info["version"].removeprefix("v").split("."))
    assert (3, 6, 4) <= digits < (3, 8, 0)
    assert all(isinstance(info[name], str) for name in ("git_commit", "architecture", "kubernetes_version"))
    assert set(info["serverless_backend"]) == {"name", "version"}


async def test_config_has_what_clients_need_to_reach_the_store(client: httpx.AsyncClient) -> None:
    config = (await client.get("/system/config")).json()

    assert config["minio_provider"] == {
        "endpoint": "http://store.example.org",
        "verify": True,
        "access_key": "AK",
        "secret_key": "SK",
        "region": "us-east-1",
    }
    assert config["allowed_image_repositories"] == []
    assert config["config"]["oidc_groups"] == [""]
    assert config["config"]["services_namespace"] == "oscar-svc"


async def test_config_has_all_store_fields_even_without_a_store(client: httpx.AsyncClient, platform: Platform) -> None:
    await platform.secrets.remove(PLATFORM)

    provider = (await client.get("/system/config")).json()["minio_provider"]

    assert {name: type(value) for name, value in provider.items()} == {
        "endpoint": str,
        "verify": bool,
        "access_key": str,
        "secret_key": str,
        "region": str,
    }


async def test_allowed_repositories_are_stored(client: httpx.AsyncClient) -> None:
    answer = await client.put("/system/config", content=b'{"Allowed_Image_Repositories": ["ghcr.io"]}')

    assert (answer.status_code, answer.json()) == (200, ["ghcr.io"])
    assert (await client.get("/system/config")).json()["allowed_image_repositories"] == ["ghcr.io"]
    await client.put("/system/config", content=b'{"allowed_image_repositories": null}')
    assert (await client.get("/system/config")).json()["allowed_image_repositories"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"allowed_image_repositories": "ghcr.io"}', b"{"])
async def test_a_bad_list_of_repositories_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await client.put("/system/config", content=body)).status_code == 400


async def test_deployment_of_job_services_is_unavailable(client: httpx.AsyncClient) -> None:
    await client.post("/system/services", content=json.dumps(definition()))

    state = (await client.get("/system/services/edge-blur/deployment")).json()
    logs = (await client.get("/system/services/edge-blur/deployment/logs?tailLines=x")).json()

    assert (state["state"], state["resource_kind"], state["service_name"]) == (
        "unavailable",
        "unavailable",
        "edge-blur",
    )
    assert state["reason"] == "Current deployment visibility is unavailable for this service runtime."
    assert (logs["available"], logs["entries"]) == (False, [])
    assert logs["message"] == "Deployment logs are unavailable for this service."


@pytest.mark.parametrize("action", ["stop", "start", "restart"])
async def test_job_services_cannot_be_stopped(client: httpx.AsyncClient, action: str) -> None:
    await client.post("/system/services", content=json.dumps(definition()))

    assert (await client.post(f"/system/services/edge-blur/{action}")).status_code == 400
    assert (await client.post(f"/system/services/nobody/{action}")).status_code == 404


async def test_deployment_of_a_missing_service_is_403(client: httpx.AsyncClient) -> None:
    for path in ("deployment", "deployment/logs"):
        answer = await client.get(f"/system/services/nobody/{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")


async def test_federation_is_none(client: httpx.AsyncClient) -> None:
    await client.post("/system/services", content=json.dumps(definition()))

    answer = await client.get("/system/federation/edge-blur")

    assert (answer.status_code, answer.json()) == (200, {"topology": "none", "members": None})
    assert (await client.get("/system/federation/nobody")).status_code == 404


async def test_quotas_are_refused_as_without_kueue(client: httpx.AsyncClient) -> None:
    assert (await client.get("/system/quotas/user")).status_code == 401
    for method in ("GET", "PUT"):
        answer = await client.request(method, "/system/quotas/user/ann")
        assert answer.status_code == 503
        assert answer.text == "kueue is not enabled: /system/quotas requires KUEUE_ENABLE=true"


async def test_status_tells_of_this_machine_in_millicores(client: httpx.AsyncClient) -> None:
    await client.post("/system/services", content=json.dumps(definition()))

    status = (await client.get("/system/status")).json()

    node = status["cluster"]["nodes"][0]
    assert node["cpu"]["capacity_cores"] == this_machine().millicores
    assert node["cpu"]["capacity_cores"] % 1000 == 0
    assert 0 < status["cluster"]["metrics"]["memory"]["total_free_bytes"] <= node["memory"]["capacity_bytes"]
    assert status["minio"] == {"buckets_count": 1, "total_objects": 2}
    assert status["oscar"]["jobs_count"] == 0


async def test_system_logs_are_the_last_calls(client: httpx.AsyncClient, dependencies: Dependencies) -> None:
    at = 1_767_323_045.5
    dependencies.access_log.add(at, 201, 0.0123, "10.0.0.1", "POST", "/job/edge-blur", None)

    logs = (await client.get("/system/logs")).json()["logs"]

    line = "2026-01-02T03:04:05.500000000Z | 201 | 12.3ms | 10.0.0.1 | POST /job/edge-blur | nil"
    assert logs == [
        {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "status": 201,
            "latency": "12.3ms",
            "client_ip": "10.0.0.1",
            "method": "POST",
            "path": "/job/edge-blur",
            "user": "nil",
            "raw": f"[GIN-EXECUTIONS-LOGGER] {line}",
        }
    ]


@pytest.mark.parametrize("path", ["/", "/ui"])
async def test_the_start_page_is_below_ui(anyone: httpx.AsyncClient, path: str) -> None:
    answer = await anyone.get(path)

    assert (answer.status_code, answer.headers["location"]) == (301, "/ui/")


async def test_the_start_page_says_what_this_is(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/ui/")

    assert answer.status_code == 200
    assert "tidemill" in answer.text
    assert (await anyone.get("/ui/x.js")).status_code == 404


async def test_a_dashboards_files_are_served_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "ui").mkdir()
    (tmp_path / "ui" / "index.html").write_text("dashboard")
    (tmp_path / "secret").write_text("secret")
    routes = UiRoutes(tmp_path / "ui")

    assert (await routes.file("")).status_code == 200
    assert (await routes.file("../secret")).status_code == 404
    assert (await routes.file("/etc/passwd")).status_code == 404
    assert (await routes.file("missing.js")).status_code == 404
