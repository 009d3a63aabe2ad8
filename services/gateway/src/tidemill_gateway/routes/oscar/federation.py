"""`GET /system/federation/{name}` (OSCAR contract 1.7): what a definition says of it; nothing here delegates."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, text


class FederationRoutes:
    """Reads only."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        path = "/system/federation/{name}"
        routes.add_api_route(path, self.read, methods=["GET"], summary="Members of a federation")
        routes.add_api_route(path, self.refuse, methods=["POST", "PUT", "DELETE"], include_in_schema=False)
        return routes

    async def read(self, name: str) -> Response:
        """`none` without members unless the definition names some."""
        if (definition := await self._catalogue.get(name)) is None:
            return empty(404)
        federation = definition.service.extra.get("federation") or {}
        return document({"topology": federation.get("topology") or "none", "members": federation.get("members")})

    async def refuse(self, name: str) -> Response:
        """Members are part of the definition."""
        return text(f"federation is not enabled: the members of {name} cannot be changed", 501)
