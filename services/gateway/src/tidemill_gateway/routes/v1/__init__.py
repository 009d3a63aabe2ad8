"""Our own API (contracts/openapi.json); errors are RFC 9457 problems."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.repeats import Repeats
from tidemill_gateway.routes.v1 import dead_letters, events, invocations, platform
from tidemill_gateway.routes.v1.views import Problem

__all__ = ["router"]

_PROBLEM: Final[dict[str, Any]] = {"model": Problem, "content": {"application/problem+json": {}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    400: _PROBLEM | {"description": "What was asked is wrong"},
    401: _PROBLEM | {"description": "No credentials, or wrong ones"},
    403: _PROBLEM | {"description": "Not with these credentials"},
    404: _PROBLEM | {"description": "It is not there"},
    409: _PROBLEM | {"description": "Not in this state"},
    503: _PROBLEM | {"description": "Again later (`Retry-After`)"},
}


def router(deps: Dependencies) -> APIRouter:
    """All routes below `/v1`."""
    repeats = Repeats(
        bus_log=deps.bus.log,
        queries=deps.queries,
        payloads=deps.payloads,
        inline_limit_bytes=deps.settings.calls.inline_limit_bytes,
        principal=deps.admin.username,
    )
    routes = APIRouter(responses=_RESPONSES)
    routes.include_router(invocations.router(deps, repeats))
    routes.include_router(dead_letters.router(deps, repeats))
    routes.include_router(events.router(deps, repeats))
    routes.include_router(platform.router(deps))
    return routes
