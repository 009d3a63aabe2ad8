"""The outermost ASGI application: calls go to their plain handlers, everything else to FastAPI."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill_gateway.routes import asgi
from tidemill_gateway.routes.calls import CallRoutes

_PREFLIGHT: asgi.Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    # `*` does not cover Authorization: https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name
    (b"access-control-allow-headers", b"Authorization, *"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]


class Dispatcher:
    """Chooses by path; a trailing slash makes no difference (OSCAR contract, section 0)."""

    def __init__(self, calls: CallRoutes, management: ASGIApp) -> None:
        self._calls = calls
        self._management = management

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._management(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith("/job/"):
            name, handler = path[5:], self._calls.job
        elif path.startswith("/run/"):
            name, handler = path[5:], self._calls.run
        else:
            await self._manage(scope, receive, send)
            return
        name = name.removesuffix("/")
        if scope["method"] == "OPTIONS":
            await asgi.answer(send, 200, _preflight(scope))
        elif not name or "/" in name:
            await asgi.not_found(send)
        else:
            await handler(name, scope, receive, send)

    async def _manage(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await asgi.answer(send, 200, _preflight(scope))
            return
        path: str = scope["path"]
        if path.endswith("/") and not path.startswith("/ui/") and path != "/":
            scope = {**scope, "path": path.rstrip("/"), "raw_path": scope.get("raw_path", b"").rstrip(b"/")}

        async def allow_origins(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *asgi.CORS]}
            await send(message)

        await self._management(scope, receive, allow_origins)


def _preflight(scope: Scope) -> asgi.Headers:
    """What a browser may send; also the consent that CloudEvents webhooks ask for (wire formats 6.3)."""
    asked = dict(scope["headers"])
    headers = list(_PREFLIGHT)
    if wanted := asked.get(b"access-control-request-headers"):
        headers[2] = (b"access-control-allow-headers", wanted)
    if origin := asked.get(b"webhook-request-origin"):
        headers += [(b"webhook-allowed-origin", origin), (b"webhook-allowed-rate", b"*")]
    return headers
