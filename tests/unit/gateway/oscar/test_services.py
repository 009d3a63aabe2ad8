"""`/system/services`: statuses, bodies, and everything odd that clients send."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.oscar_cli import CLI_BODY
from tests.unit.gateway.catalogue.platforms import Platform, definition


def assert_is_text(answer: httpx.Response, status: int, start: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert answer.text.startswith(start), answer.text


async def created(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    answer = await client.post("/system/services", content=json.dumps(definition(**fields)))
    assert answer.status_code == 201, answer.text
    return answer


async def test_creating_answers_201_and_nothing(client: httpx.AsyncClient) -> None:
    answer = await created(client)

    assert answer.content == b""


async def test_the_list_is_empty_and_not_null(client: httpx.AsyncClient) -> None:
    answer = await client.get("/system/services")

    assert (answer.status_code, answer.json()) == (200, [])


async def test_the_body_of_oscar_cli_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/system/services", content=json.dumps(CLI_BODY | {"output": None}))
    assert answer.status_code == 201, answer.text

    service = (await client.get("/system/services/edge-blur")).json()
    assert service["environment"]["variables"] == {"K": "v"}
    assert service["script"] == "#!/bin/sh\ntrue\n"
    assert (service["memory"], service["cpu"], service["log_level"]) == ("256Mi", "0.5", "INFO")
    assert "api_port" not in service["expose"]
    assert "nodePort" not in service["expose"]


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"])
async def test_the_body_is_json_whatever_its_type(client: httpx.AsyncClient, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await client.post("/system/services", content=json.dumps(definition()), headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "odd",
    [
        {"rescheduler_threshold": "", "replicas": [], "image_rules": []},
        {"clusters": {"id": {}}, "total_cpu": "0", "token": ""},
        {"labels": None, "annotations": None, "allowed_users": None, "bucket_list": None, "environment": None},
        {"cpu": 1.0},
        {"volume_status": {"enabled": False}, "namespace": "oscar-svc-ab", "delegation": 7},
        {"expose": {"nodePort": 0}},
    ],
)
async def test_legacy_and_odd_keys_are_taken(client: httpx.AsyncClient, odd: dict[str, Any]) -> None:
    await created(client, **odd)


async def test_keys_match_in_any_case(client: httpx.AsyncClient) -> None:
    body = {"NAME": "loud", "Image": "i", "SCRIPT": "s", "Environment": {"VARIABLES": {"Keep": "Case"}}}
    assert (await client.post("/system/services", content=json.dumps(body))).status_code == 201

    service = (await client.get("/system/services/loud")).json()
    assert service["environment"]["variables"] == {"Keep": "Case"}


@pytest.mark.parametrize(("sent", "shown"), [(8000, 8000), ([8000], 8000), ([8000, 9000], [8000, 9000])])
async def test_a_single_port_is_shown_as_a_number(client: httpx.AsyncClient, sent: object, shown: object) -> None:
    await created(client, expose={"api_port": sent, "min_scale": 1, "max_scale": 1})

    assert (await client.get("/system/services/edge-blur")).json()["expose"]["api_port"] == shown


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"name": "a"}',
        json.dumps(definition(image="")).encode(),
        json.dumps(definition(name="Not a name")).encode(),
        json.dumps(definition(name="platform")).encode(),
        json.dumps(definition(input=[{"path": " / "}])).encode(),
        json.dumps(definition(memory="much")).encode(),
        json.dumps(definition(output=[{"path": "edge-blur/in/out"}])).encode(),
        json.dumps(definition(output=[{"storage_provider": "s3.nowhere", "path": "a/b"}])).encode(),
    ],
)
async def test_a_bad_definition_is_400_with_the_reason(client: httpx.AsyncClient, body: bytes) -> None:
    for method in ("POST", "PUT"):
        answer = await client.request(method, "/system/services", content=body)
        assert_is_text(answer, 400, "The service specification is not valid: ")


async def test_a_taken_name_is_400(client: httpx.AsyncClient) -> None:
    await created(client)

    answer = await client.post("/system/services", content=json.dumps(definition()))

    assert_is_text(answer, 400, "A service with the provided name already exists")


async def test_a_bucket_of_somebody_else_is_403(client: httpx.AsyncClient, platform: Platform) -> None:
    await platform.stores.own.create_bucket("edge-blur")
    await platform.stores.own.set_tags("edge-blur", {"owner": "ann"})

    answer = await client.post("/system/services", content=json.dumps(definition()))

    assert_is_text(answer, 403, "the bucket 'edge-blur' belongs to another user")


async def test_a_refused_image_is_500_as_in_oscar(client: httpx.AsyncClient) -> None:
    await client.put("/system/config", content=b'{"allowed_image_repositories": ["ghcr.io"]}')

    answer = await client.post("/system/services", content=json.dumps(definition()))

    assert_is_text(answer, 500, "Error creating the service: image docker.io/acme/blur:1 is not allowed")


async def test_a_missing_service_is_404_and_nothing(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/system/services/nobody"),
        await client.delete("/system/services/nobody"),
        await client.put("/system/services", content=json.dumps(definition("nobody"))),
    ):
        assert (answer.status_code, answer.content) == (404, b"")


async def test_what_get_shows_can_be_put(client: httpx.AsyncClient, platform: Platform) -> None:
    await created(
        client,
        environment={"variables": {"A": "1"}, "secrets": {"KEY": "s3cr3t"}},
        output=[{"storage_provider": "s3.archive", "path": "acme/results"}],
        storage_providers={"s3": {"archive": {"access_key": "AK", "secret_key": "s3cr3t", "region": "eu-west-1"}}},
    )
    shown = await client.get("/system/services/edge-blur")
    assert "s3cr3t" not in shown.text
    before = await platform.secrets.get("edge-blur")

    answer = await client.put("/system/services", content=json.dumps(shown.json() | {"cpu": "1"}))

    assert (answer.status_code, answer.content) == (204, b"")
    assert await platform.secrets.get("edge-blur") == before
    assert (await client.get("/system/services/edge-blur")).json() == shown.json() | {"cpu": "1"}


async def test_get_shows_what_clients_need(client: httpx.AsyncClient) -> None:
    await created(client)

    service = (await client.get("/system/services")).json()[0]

    assert len(service["token"]) == 64
    assert (service["owner"], service["namespace"], service["visibility"]) == ("cluster_admin", "oscar-svc", "private")
    assert service["labels"]["oscar_service"] == "edge-blur"
    assert service["storage_providers"]["minio"]["default"] == {
        "endpoint": "http://store.example.org",
        "verify": True,
        "access_key": "hidden",
        "secret_key": "hidden",
        "region": "us-east-1",
    }
    assert "deployment" not in service


async def test_the_deployment_is_included_when_asked_for(client: httpx.AsyncClient) -> None:
    await created(client)

    for path in ("/system/services/edge-blur", "/system/services"):
        shown = (await client.get(path, params={"include": "deployment"})).json()
        service = shown[0] if isinstance(shown, list) else shown
        assert service["deployment"]["state"] == "unavailable"


async def test_removing_answers_204_and_keeps_the_data(client: httpx.AsyncClient, platform: Platform) -> None:
    await created(client)
    await platform.stores.own.put("edge-blur/out/a.png", b"a")

    answer = await client.delete("/system/services/edge-blur")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await platform.stores.own.get("edge-blur/out/a.png") == b"a"


@pytest.mark.parametrize(("query", "headers"), [("?delete_data=true", {}), ("", {"Tidemill-Delete-Data": "true"})])
async def test_data_is_removed_only_when_asked_for(
    client: httpx.AsyncClient, platform: Platform, query: str, headers: dict[str, str]
) -> None:
    await platform.stores.own.create_bucket("older")
    await created(client, output=[{"path": "edge-blur/out"}, {"path": "older/out"}, {"path": "shared/out"}])
    await created(client, name="other", input=[{"path": "shared/out"}], output=[])

    await client.delete(f"/system/services/edge-blur{query}", headers=headers)

    assert await platform.stores.own.buckets() == ["older", "shared", "tidemill"]
