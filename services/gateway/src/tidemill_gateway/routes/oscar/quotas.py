"""`/system/quotas` (OSCAR contract 1.13): there are no users with quotas, and the answers say so as OSCAR does."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from tidemill_gateway.routes.oscar.answers import OscarRoute, text

_DISABLED: Final = "kueue is not enabled: /system/quotas requires KUEUE_ENABLE=true"


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=OscarRoute)
    routes.add_api_route("/system/quotas/user", own, methods=["GET"], summary="Quota of the caller")
    routes.add_api_route("/system/quotas/user/{user}", of_user, methods=["GET", "PUT"], summary="Quota of a user")
    return routes


async def own() -> Response:
    """The admin has none."""
    return text("quotas of the caller need an OIDC token", 401)


async def of_user(user: str) -> Response:
    """Nobody has one."""
    return text(_DISABLED, 503)
