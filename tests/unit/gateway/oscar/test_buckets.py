"""`/system/buckets`: statuses, bodies, pages and presigned URLs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_gateway.routes.oscar.buckets import size_text


async def make(client: httpx.AsyncClient, name: str = "data", **fields: Any) -> None:
    answer = await client.post("/system/buckets", content=json.dumps({"bucket_name": name, **fields}))
    assert (answer.status_code, answer.content) == (201, b""), answer.text


async def test_without_buckets_the_list_is_null(client: httpx.AsyncClient) -> None:
    answer = await client.get("/system/buckets")

    assert (answer.status_code, answer.json()) == (200, None)


async def test_a_made_bucket_is_listed_with_what_is_in_it(client: httpx.AsyncClient, platform: Platform) -> None:
    await make(client, "data/in", visibility="restricted", allowed_users=["ann"])
    await platform.stores.own.put("data/in/a.png", b"x" * 2048)

    assert (await client.get("/system/buckets")).json() == [
        {
            "bucket_name": "data",
            "visibility": "restricted",
            "allowed_users": ["ann"],
            "owner": "oscar",
            "metadata": {"owner_name": "oscar"},
            "storage_quota": {"max": "", "max_bytes": 0, "source": "unsupported"},
            "storage_usage": {"used": "2Ki", "used_bytes": 2048, "objects": 2},
            "attribution": "partial",
        }
    ]
    assert await platform.stores.own.get("data/in/") == b""


async def test_buckets_of_services_say_so(client: httpx.AsyncClient) -> None:
    await client.post("/system/services", content=json.dumps(definition()))

    listed = (await client.get("/system/buckets")).json()[0]
    single = (await client.get("/system/buckets/edge-blur")).json()

    assert (listed["owner"], listed["metadata"]["from_service"]) == ("", "edge-blur")
    assert (single["owner"], single["metadata"]["owner"]) == ("cluster_admin", "")
    assert listed["attribution"] == "complete"


@pytest.mark.parametrize("body", [{}, {"bucket_name": ""}, {"bucket_name": "NO_GOOD"}, {"bucket_name": 7}, []])
async def test_a_bad_name_is_400(client: httpx.AsyncClient, body: object) -> None:
    assert (await client.post("/system/buckets", content=json.dumps(body))).status_code == 400


async def test_an_existing_bucket_is_400(client: httpx.AsyncClient) -> None:
    await make(client)

    answer = await client.post("/system/buckets", content=b'{"bucket_name": "data"}')

    assert (answer.status_code, answer.text) == (400, "A bucket with the name data already exists")


async def test_objects_come_in_pages_of_70(client: httpx.AsyncClient, platform: Platform) -> None:
    await make(client)
    for number in range(75):
        await platform.stores.own.put(f"data/{number:03}", b"x")

    first = (await client.get("/system/buckets/data?page=&limit=1")).json()
    second = (await client.get("/system/buckets/data", params={"page": first["next_page"]})).json()

    assert (first["returned_items"], first["is_truncated"]) == (70, True)
    assert (second["returned_items"], second["is_truncated"]) == (5, False)
    assert "next_page" not in second
    names = [item["object_name"] for item in first["objects"] + second["objects"]]
    assert names == [f"{number:03}" for number in range(75)]
    assert first["objects"][0]["last_modified"].endswith(" +0000 UTC")


async def test_a_full_page_with_nothing_behind_it_is_the_last(client: httpx.AsyncClient, platform: Platform) -> None:
    await make(client)
    for number in range(70):
        await platform.stores.own.put(f"data/{number:03}", b"x")

    page = (await client.get("/system/buckets/data")).json()

    assert (page["returned_items"], page["is_truncated"]) == (70, False)


async def test_an_empty_bucket_has_no_objects_key(client: httpx.AsyncClient) -> None:
    await make(client)

    page = (await client.get("/system/buckets/data")).json()

    assert "objects" not in page
    assert page["storage_usage"] == {"used": "0", "used_bytes": 0}


async def test_a_forged_page_is_400(client: httpx.AsyncClient) -> None:
    await make(client)

    assert (await client.get("/system/buckets/data?page=!!!")).status_code == 400


async def test_sharing_changes_who_may_see_it(client: httpx.AsyncClient) -> None:
    await make(client)

    body = b'{"bucket_name": "data", "visibility": "public", "allowed_users": ["ann"]}'
    assert (await client.put("/system/buckets", content=body)).status_code == 204

    bucket = (await client.get("/system/buckets/data")).json()
    assert (bucket["visibility"], bucket["allowed_users"]) == ("public", ["ann"])


async def test_removing_takes_the_objects_along(client: httpx.AsyncClient, platform: Platform) -> None:
    await make(client)
    await platform.stores.own.put("data/a", b"a")

    answer = await client.delete("/system/buckets/data")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await platform.stores.own.buckets() == ["tidemill"]
    again = await client.delete("/system/buckets/data")
    assert (again.status_code, again.text) == (404, "The bucket 'data' does not exist")


async def test_the_platforms_bucket_is_out_of_reach(client: httpx.AsyncClient, platform: Platform) -> None:
    assert (await client.get("/system/buckets/tidemill")).status_code == 404
    assert (await client.delete("/system/buckets/tidemill")).status_code == 403
    assert (await client.post("/system/buckets", content=b'{"bucket_name": "tidemill"}')).status_code == 403
    presign = b'{"object_key": "payloads/x", "operation": "download"}'
    assert (await client.post("/system/buckets/tidemill/presign", content=presign)).status_code == 404
    assert await platform.stores.own.buckets() == ["tidemill"]


@pytest.mark.parametrize(("operation", "method"), [("upload", "PUT"), ("download", "GET")])
async def test_a_presigned_url_is_for_one_object(client: httpx.AsyncClient, operation: str, method: str) -> None:
    await make(client)

    body = {"object_key": "in/a.png", "operation": operation, "expires_in": 60}
    answer = (await client.post("/system/buckets/data/presign", content=json.dumps(body))).json()

    assert (answer["object_key"], answer["operation"], answer["method"]) == ("in/a.png", operation, method)
    assert "data/in/a.png" in answer["url"]
    assert "expires=60" in answer["url"]
    assert answer["expires_at"].endswith("Z")
    assert "headers" not in answer


async def test_an_upload_with_a_type_says_which_header_to_send(client: httpx.AsyncClient) -> None:
    await make(client)

    body = {"object_key": "a", "operation": "upload", "content_type": "image/png", "expires": 60}
    answer = (await client.post("/system/buckets/data/presign", content=json.dumps(body))).json()

    assert answer["headers"] == {"Content-Type": "image/png"}
    assert "expires=900" in answer["url"]


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "upload"},
        {"object_key": "a", "operation": "erase"},
        {"object_key": "a", "operation": "upload", "expires_in": -1},
        {"object_key": "a", "operation": "upload", "expires_in": 604_801},
        {"object_key": "a", "operation": "upload", "expires_in": "60"},
    ],
)
async def test_a_bad_presign_is_400(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    await make(client)

    assert (await client.post("/system/buckets/data/presign", content=json.dumps(body))).status_code == 400


async def test_presigning_for_a_missing_bucket_is_404(client: httpx.AsyncClient) -> None:
    body = b'{"object_key": "a", "operation": "upload"}'

    assert (await client.post("/system/buckets/data/presign", content=body)).status_code == 404


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (12, "12"), (1024, "1Ki"), (12_582_912, "12Mi"), (5 * 1024**3, "5Gi"), (1500, "1500")]
)
def test_sizes_are_quantities(size: int, text: str) -> None:
    assert size_text(size) == text
