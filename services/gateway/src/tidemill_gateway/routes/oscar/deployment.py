"""Deployment state of exposed services (OSCAR contract 1.4, 1.5, 16). Job services have none, and say so."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response

from tidemill_common.contracts.service import Service
from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, text

_NO_STATE: Final = "Current deployment visibility is unavailable for this service runtime."
_NO_LOGS: Final = "Deployment logs are unavailable for this service."
_ACTIONS: Final = ("stop", "start", "restart")


def deployment_json(service: Service) -> dict[str, Any]:
    """What OSCAR tells of a service whose runtime has no deployment."""
    return {
        "service_name": service.name,
        "namespace": service.namespace,
        "state": "unavailable",
        "reason": _NO_STATE,
        "active_instances": 0,
        "affected_instances": 0,
        "resource_kind": "unavailable",
    }


class DeploymentRoutes:
    """State, logs and actions."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        one = "/system/services/{name}"
        routes.add_api_route(f"{one}/deployment", self.state, methods=["GET"], summary="Deployment state")
        routes.add_api_route(f"{one}/deployment/logs", self.logs, methods=["GET"], summary="Deployment logs")
        for action in _ACTIONS:
            routes.add_api_route(f"{one}/{action}", self.act, methods=["POST"], summary=f"{action} (exposed only)")
        return routes

    async def state(self, name: str) -> Response:
        """200 for every Service; 403 for a missing one, as in OSCAR."""
        if (definition := await self._catalogue.get(name)) is None:
            return _missing(name)
        return document(deployment_json(definition.service))

    async def logs(self, name: str) -> Response:
        """No lines."""
        if await self._catalogue.get(name) is None:
            return _missing(name)
        return document({"service_name": name, "available": False, "message": _NO_LOGS, "entries": []})

    async def act(self, name: str) -> Response:
        """Only an exposed service can be stopped and started, and none runs here."""
        if await self._catalogue.get(name) is None:
            return empty(404)
        return text(f"service {name} is not an exposed service", 400)


def _missing(name: str) -> Response:
    return text(f"User does not have permission to read the service {name}, or it does not exist", 403)
