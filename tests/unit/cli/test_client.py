"""How the client reads the gateway's answers."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> GatewayClient:
    http = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(handler))
    return GatewayClient(http, "http://gateway")


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (httpx.Response(401, text="wrong password"), Exit.CONNECTION, "wrong password"),
        (httpx.Response(404), Exit.NOT_FOUND, "there is no Service blur"),
        (httpx.Response(400, json={"title": "Bad", "detail": "input path cannot be empty"}), Exit.USAGE, "input path"),
        (httpx.Response(503, text="bus"), Exit.CONNECTION, "bus"),
        (httpx.Response(500), Exit.FAILED, "500"),
    ],
)
async def test_an_error_answer_becomes_an_exit_code(answer: httpx.Response, code: Exit, text: str) -> None:
    with pytest.raises(CliError, match=text) as caught:
        await client(lambda _: answer).request("GET", "/x", missing="Service blur")
    assert caught.value.code is code


async def test_a_gateway_that_is_not_there_is_a_connection_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(CliError) as caught:
        await client(refuse).get("/x")
    assert caught.value.code is Exit.CONNECTION


async def test_a_service_is_called_with_its_own_token_and_not_with_our_password() -> None:
    seen: dict[str, str] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"token": "the-token"})
        seen["authorization"] = request.headers["authorization"]
        return httpx.Response(201, headers={"Tidemill-Invocation-Id": "abc"})

    assert await client(handler).job("blur", b"") == "abc"
    assert seen["authorization"] == "Bearer the-token"


async def test_a_list_is_read_page_by_page_up_to_the_limit() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", "0"))
        return httpx.Response(200, json={"items": [{"id": number}], "next": str(number + 1) if number < 4 else None})

    async def ids(limit: int | None) -> list[int]:
        return [item["id"] for item in await client(handler).pages("/list", limit=limit)]

    assert await ids(None) == [0, 1, 2, 3, 4]
    assert await ids(2) == [0, 1]
