"""`/system/services/{name}/auth`: a proxy in front asks it who may pass (OSCAR contract 1.6)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tidemill_gateway.auth import unauthorized
from tidemill_gateway.exposed.access import Doorkeeper, proof_of
from tidemill_gateway.routes.oscar.answers import OscarRoute, empty


class ServiceAuthRoutes:
    """The forward-auth target."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    def router(self) -> APIRouter:
        """The routes; not behind the admin's password."""
        routes = APIRouter(route_class=OscarRoute)
        routes.add_api_route(
            "/system/services/{name}/auth", self.check, methods=["GET"], summary="Whether a request may pass"
        )
        return routes

    async def check(self, name: str, request: Request) -> Response:
        """200 and nothing else, or 401; 404 for the admin alone, so that nobody learns which services there are."""
        proof = proof_of(dict(request.headers.raw), request.url.query, request.url.scheme)
        access = self._doorkeeper.check_forward(name, proof)
        if not access.is_allowed:
            raise unauthorized()
        service = self._doorkeeper.services.get_cached(name)
        if service is None or service.expose is None:
            return empty(404)
        answer = empty(200)
        if access.set_cookie is not None:
            answer.headers["set-cookie"] = access.set_cookie
        return answer
