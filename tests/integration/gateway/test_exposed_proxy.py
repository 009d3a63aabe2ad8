"""The gateway's proxy for exposed Services: its own server in front of real ones, without the rest of the platform."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import web

from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import DeploymentState, ExposedState, state_register
from tidemill_common.contracts.service import Expose, Service
from tidemill_common.settings import BusSettings
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.exposed.access import Doorkeeper
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.exposed.upstreams import Upstreams
from tidemill_gateway.routes import asgi
from tidemill_gateway.routes.exposed import ExposedRoutes
from tidemill_gateway.server import listen, serving

pytestmark = pytest.mark.integration

TOKEN = "ab" * 32
BASE = "/system/services/web/exposed"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class OneService:
    """Knows web."""

    expose: Expose = field(default_factory=lambda: Expose(api_port=(80,)))

    def get_cached(self, name: str) -> Service | None:
        """By its name."""
        if name != "web":
            return None
        return Service(name=ServiceName("web"), image="i", script="s", expose=self.expose)

    def service_of_token(self, name: str, token: str) -> Service | None:
        """By its token."""
        return self.get_cached(name) if token == TOKEN else None


async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
    """The rest of the gateway."""
    await asgi.answer_text(send, 418, "the rest")


@dataclass
class Front:
    """The gateway's part, and the servers behind it."""

    url: str
    bus: Bus
    services: OneService
    stack: AsyncExitStack

    async def serve(self, handler: Handler) -> str:
        """An instance; its address."""
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return site.name if ":0" not in site.name else f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def tell(self, *urls: str, state: DeploymentState = DeploymentState.READY) -> None:
        """As the scheduler does."""
        told = ExposedState(
            service=ServiceName("web"), state=state, last_transition=datetime.now(UTC), active=len(urls), urls=urls
        )
        await self.bus.registers.put(state_register("web"), told.encode())


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    """One without any instance."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(BusSettings(url="memory://"), name="test"))
        services, upstreams = OneService(), Upstreams()
        stack.push_async_callback(upstreams.close)
        routes = ExposedRoutes(
            application=nothing_else,
            services=services,
            doorkeeper=Doorkeeper(services, AdminCredentials(username="oscar", password="pw")),
            states=ExposedStates(bus.registers, bus.live),
            upstreams=upstreams,
        )
        listener = listen("127.0.0.1", 0)
        await stack.enter_async_context(serving(routes, listener, drain=timedelta(seconds=1)))
        yield Front(f"http://127.0.0.1:{listener.getsockname()[1]}", bus, services, stack)


@asynccontextmanager
async def client(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    """Of the gateway."""
    async with httpx.AsyncClient(base_url=front.url, timeout=30) as opened:
        yield opened


def saying(text: str) -> Handler:
    """A server that always says the same."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return handler


async def test_instances_take_turns_and_one_that_is_away_is_passed_over(front: Front) -> None:
    await front.tell(await front.serve(saying("a")), await front.serve(saying("b")), "http://127.0.0.1:1")
    async with client(front) as asking:
        said = [(await asking.get(f"{BASE}/")).text for _ in range(9)]
    assert set(said) == {"a", "b"}
    assert min(said.count("a"), said.count("b")) >= 3


@pytest.mark.parametrize("state", [DeploymentState.PENDING, DeploymentState.STOPPED])
async def test_without_an_instance_it_is_503_with_retry_after(front: Front, state: DeploymentState) -> None:
    await front.tell(state=state)
    async with client(front) as asking:
        answer = await asking.get(f"{BASE}/")
    assert answer.status_code == 503
    assert state.value in answer.text
    assert int(answer.headers["retry-after"]) >= 1


async def test_when_nobody_can_be_reached_it_is_502_with_retry_after(front: Front) -> None:
    await front.tell("http://127.0.0.1:1")
    async with client(front) as asking:
        answer = await asking.post(f"{BASE}/", content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (502, "2")


async def test_a_server_that_breaks_off_is_502_and_is_not_asked_twice(front: Front) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    await front.tell(await front.serve(handler))
    async with client(front) as asking:
        assert (await asking.post(f"{BASE}/", content=b"x")).status_code == 502
    assert asked == 1


async def test_an_answer_that_breaks_off_breaks_off_for_the_client(front: Front) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    await front.tell(await front.serve(handler))
    async with client(front) as asking:
        with pytest.raises(httpx.RemoteProtocolError):
            await asking.get(f"{BASE}/")


async def test_status_headers_and_encoded_bodies_pass_unchanged(front: Front) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.method == "PROPFIND"
        body = await request.read()
        headers = [("Content-Encoding", "gzip"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Location", "/login")]
        found = web.Response(status=302, body=body)
        for name, value in headers:
            found.headers.add(name, value)
        return found

    await front.tell(await front.serve(handler))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        url = f"{front.url}{BASE}/x"
        async with session.request("PROPFIND", url, data=b"not gzip", allow_redirects=False) as answer:
            assert answer.status == 302
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
            assert answer.headers["Location"] == "/login"
            assert await answer.read() == b"not gzip"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end(front: Front, status: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"ETag": '"1"'})

    await front.tell(await front.serve(handler))
    async with client(front) as asking:
        assert (await asking.get(f"{BASE}/")).status_code == status
        assert (await asking.head(f"{BASE}/")).status_code == status


async def test_an_answer_before_the_body_is_whole_arrives(front: Front) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=413, headers={"Connection": "close"})

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    await front.tell(await front.serve(handler))
    async with (
        aiohttp.ClientSession() as session,
        asyncio.timeout(60),
        session.post(f"{front.url}{BASE}/", data=endless()) as answer,
    ):
        assert answer.status == 413


async def test_the_server_learns_that_its_client_left(front: Front) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    front.stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await front.tell(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with client(front) as asking, asyncio.timeout(60):
        waiting = asyncio.create_task(asking.get(f"{BASE}/"))
        await asked.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await left.wait()


async def test_a_preflight_and_other_paths_are_left_to_the_gateway(front: Front) -> None:
    async with client(front) as asking:
        asked = {"Origin": "https://a", "Access-Control-Request-Method": "PUT"}
        assert (await asking.options(f"{BASE}/", headers=asked)).status_code == 418
        assert (await asking.get("/system/services/web/deployment")).status_code == 418
        assert (await asking.get("/system/services/other/exposed/")).status_code == 404


async def echo(request: web.Request) -> web.WebSocketResponse:
    """A server of WebSockets that prefers `v2`."""
    socket = web.WebSocketResponse(protocols=("v2",))
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4321, message=b"as you wish")
        else:
            await socket.send_str(f"{request.path_qs} {message.data}")
    return socket


async def test_a_websocket_keeps_its_path_protocol_and_close_code(front: Front) -> None:
    await front.tell(await front.serve(echo))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{front.url}{BASE}/a?b=c", protocols=("v1", "v2")) as socket,
    ):
        assert socket.protocol == "v2"
        await socket.send_str("x")
        assert (await socket.receive(60)).data == "/a?b=c x"
        await socket.send_str("bye")
        end = await socket.receive(60)
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "as you wish")


async def test_a_websocket_without_proof_is_refused_with_a_status(front: Front) -> None:
    front.services.expose = Expose(api_port=(80,), set_auth=True)
    await front.tell(await front.serve(echo))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{front.url}{BASE}/")
        assert refused.value.status == 401
        proof = {"Authorization": "Basic " + base64.b64encode(f"web:{TOKEN}".encode()).decode()}
        async with session.ws_connect(f"{front.url}{BASE}/", headers=proof) as socket:
            await socket.send_str("x")
            assert (await socket.receive(60)).data == "/ x"


@pytest.mark.parametrize(("status", "told"), [(200, 502), (403, 403), (404, 404)])
async def test_a_websocket_that_the_server_refuses_is_refused_with_its_status(
    front: Front, status: int, told: int
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    await front.tell(await front.serve(handler))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{front.url}{BASE}/")
    assert refused.value.status == told
