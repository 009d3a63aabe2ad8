"""`/system/services/{name}/exposed/*`: passed on to the instances of exposed Services (OSCAR contract 8)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill_common.contracts.exposed import DeploymentState, ExposedState
from tidemill_common.contracts.service import Service
from tidemill_gateway.exposed.access import Access, Doorkeeper, proof_of
from tidemill_gateway.exposed.forwarding import RawHeaders, named, request_headers, target
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.exposed.upstreams import Body, BrokenError, ConnectError, Forwarded, Upstreams
from tidemill_gateway.exposed.websockets import Refusal, refuse, relay
from tidemill_gateway.ports import Services
from tidemill_gateway.routes import asgi

log = structlog.get_logger(__name__)
_PREFIX: Final = "/system/services/"
_FIRST_REFUSAL: Final = 400
_HANDSHAKE: Final = frozenset(
    (
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An instance, or somewhere behind which they are; and the Service."""

    service: Service
    rest: bytes
    access: Access


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedRoutes:
    """Takes the paths of exposed Services, and leaves all others to the application."""

    application: ASGIApp
    services: Services
    doorkeeper: Doorkeeper
    states: ExposedStates
    upstreams: Upstreams
    turns: itertools.count[int] = field(default_factory=itertools.count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or one WebSocket."""
        path: str = scope.get("path", "")
        found = named(scope.get("raw_path") or path.encode()) if path.startswith(_PREFIX) else None
        if found is None:
            await self.application(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(*found, scope, receive, send)
        elif _is_preflight(scope):
            await self.application(scope, receive, send)
        else:
            await self._http(*found, scope, receive, send)

    async def _http(self, name: str, rest: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            place = self._enter(name, rest, scope)
            await self._pass_on(place, scope, receive, send)
        except Refusal as refusal:
            await asgi.answer_text(send, refusal.status, refusal.text, *refusal.headers)

    async def _websocket(self, name: str, rest: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            place = self._enter(name, rest, scope)
            await self._pass_socket_on(place, scope, receive, send)
        except Refusal as refusal:
            await refuse(refusal, scope, send)

    def _enter(self, name: str, rest: bytes, scope: Scope) -> Place:
        """The place that is asked for.

        Raises:
            Refusal: There is none, or not for this caller.
        """
        service = self.services.get_cached(name)
        if service is None or service.expose is None:
            raise Refusal(404, "404 page not found")
        query = scope["query_string"].decode("latin-1")
        access = self.doorkeeper.check(service, proof_of(asgi.header_map(scope), query, scope["scheme"]))
        if not access.is_allowed:
            challenge = ((b"www-authenticate", access.challenge.encode()),) if access.challenge else ()
            raise Refusal(401, "", challenge)
        return Place(service=service, rest=rest, access=access)

    async def _pass_on(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        headers = asgi.header_map(scope)
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        body = Body(receive, has_body)
        request = Forwarded(
            method=scope["method"],
            target=target(place.service, place.rest, scope["query_string"]),
            headers=request_headers(scope, place.service, drop=self._secret(headers)),
        )
        for url in await self._urls(place.service):
            try:
                await self.upstreams.exchange(url, request, body, send, add=_cookie(place.access))
            except ConnectError as error:
                log.info("instance of an exposed service not reached", service=place.service.name, error=str(error))
                continue
            except BrokenError as error:
                raise _bad_gateway(place.service, "ended the connection without an answer") from error
            return
        await self.states.get(place.service.name, fresh=True)
        raise _bad_gateway(place.service, "does not answer")

    async def _pass_socket_on(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        drop = {*_HANDSHAKE, *self._secret(asgi.header_map(scope))}
        headers = request_headers(scope, place.service, drop=drop)
        path = target(place.service, place.rest, scope["query_string"])
        for url in await self._urls(place.service):
            try:
                async with self.upstreams.websocket(url + path, headers, scope.get("subprotocols", [])) as upstream:
                    await relay(upstream, receive, send, _cookie(place.access))
            except ConnectError as error:
                log.info("instance of an exposed service not reached", service=place.service.name, error=str(error))
                continue
            except aiohttp.WSServerHandshakeError as error:
                if error.status < _FIRST_REFUSAL:
                    raise _bad_gateway(place.service, "does not speak WebSocket here") from error
                raise Refusal(error.status, "") from error
            return
        await self.states.get(place.service.name, fresh=True)
        raise _bad_gateway(place.service, "does not answer")

    async def _urls(self, service: Service) -> Sequence[str]:
        """Where it answers, another one first each time.

        Raises:
            Refusal: Nowhere now.
        """
        state = await self.states.get(service.name)
        if state is None or not state.urls:
            state = await self.states.get(service.name, fresh=True)
        if state is None or not state.urls:
            raise _not_ready(service, state)
        first = next(self.turns) % len(state.urls)
        return state.urls[first:] + state.urls[:first]

    def _secret(self, headers: dict[bytes, bytes]) -> Sequence[bytes]:
        """The admin's password is never shown to user code; a browser sends it to every path of this server."""
        given = headers.get(b"authorization", b"").decode("latin-1")
        return (b"authorization",) if self.doorkeeper.admin.accept(given) else ()


def _is_preflight(scope: Scope) -> bool:
    """A browser's question before the real request, which cannot carry what proves who asks."""
    return scope["method"] == "OPTIONS" and b"access-control-request-method" in asgi.header_map(scope)


def _cookie(access: Access) -> RawHeaders:
    return [(b"set-cookie", access.set_cookie.encode())] if access.set_cookie else []


def _not_ready(service: Service, state: ExposedState | None) -> Refusal:
    word = state.state if state is not None else DeploymentState.PENDING
    reason = f": {state.reason}" if state is not None and state.reason else ""
    seconds = b"30" if word is DeploymentState.STOPPED else b"2"
    return Refusal(503, f"service {service.name} is {word.value}{reason}", ((b"retry-after", seconds),))


def _bad_gateway(service: Service, what: str) -> Refusal:
    return Refusal(502, f"service {service.name} {what}", ((b"retry-after", b"2"),))
