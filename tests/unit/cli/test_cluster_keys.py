"""The bus's keys in a cluster: made once, and never made anew."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tidemill.errors import CliError
from tidemill.platform.cluster_keys import provide, renewed


class _Secrets:
    """The API server's Secrets of one namespace."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None
        self.writes: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404, json={}) if self.secret is None else httpx.Response(200, json=self.secret)
        self.writes.append(f"{request.method} {request.url.path}")
        self.secret = json.loads(request.content)
        return httpx.Response(201, json=self.secret)

    def files(self) -> dict[str, str]:
        assert self.secret is not None
        return {name: base64.b64decode(value).decode() for name, value in self.secret["data"].items()}


@pytest.fixture
def secrets() -> _Secrets:
    return _Secrets()


@pytest.fixture
def client(secrets: _Secrets) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(secrets), base_url="https://cluster")


def test_the_first_run_makes_a_secret_with_what_every_component_mounts(secrets: _Secrets, client: httpx.Client) -> None:
    assert provide(client, "here", "keys")
    assert secrets.writes == ["POST /api/v1/namespaces/here/secrets"]
    components = {f"bus-{name}.creds" for name in ("operator", "gateway", "bridge", "scheduler")}
    assert set(secrets.files()) == {"bus-keys.json", "bus-server.conf", "bus-workers.json", *components}


def test_another_run_writes_nothing(secrets: _Secrets, client: httpx.Client) -> None:
    provide(client, "here", "keys")
    before = secrets.files()
    assert not provide(client, "here", "keys")
    assert secrets.files() == before
    assert len(secrets.writes) == 1


def test_what_an_older_version_made_is_made_anew_of_the_same_keys(secrets: _Secrets, client: httpx.Client) -> None:
    provide(client, "here", "keys")
    before = secrets.files()
    assert secrets.secret is not None
    secrets.secret["data"]["bus-server.conf"] = base64.b64encode(b"older").decode()
    secrets.secret["metadata"]["resourceVersion"] = "7"

    assert provide(client, "here", "keys")

    assert secrets.files() == before
    assert secrets.writes[1:] == ["PUT /api/v1/namespaces/here/secrets/keys"]
    assert secrets.secret["metadata"]["resourceVersion"] == "7", "somebody else's write is not overwritten"


def test_damaged_keys_are_not_replaced() -> None:
    with pytest.raises(CliError):
        renewed({"bus-keys.json": "{"})


def test_a_refusal_is_told_in_the_servers_words() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"message": "secrets is forbidden"})

    with (
        httpx.Client(transport=httpx.MockTransport(refuse), base_url="https://cluster") as client,
        pytest.raises(CliError, match="secrets is forbidden"),
    ):
        provide(client, "here", "keys")
