"""`GET /health`, without credentials."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tidemill_gateway.routes.oscar.answers import OscarRoute, text


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=OscarRoute)
    routes.add_api_route("/health", health, methods=["GET"], summary="Whether the gateway answers")
    return routes


async def health() -> Response:
    """`Ok`."""
    return text("Ok")
