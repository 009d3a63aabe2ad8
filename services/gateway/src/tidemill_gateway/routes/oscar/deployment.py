"""Deployment state of exposed services (OSCAR contract 1.4, 1.5, 16). Job services have none, and say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from tidemill_common.contracts.exposed import DeploymentState, ExposedState, LogLine
from tidemill_common.contracts.service import Service
from tidemill_common.errors import TransientError
from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.exposed.logs import ExposedLogs
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.exposed.wishes import Wishes
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, flag, text

_NO_STATE: Final = "Current deployment visibility is unavailable for this service runtime."
_NO_LOGS: Final = "Deployment logs are unavailable for this service."
_NO_LINES: Final = "No logs are available for this service yet."
_NOT_TOLD: Final = "the scheduler has told nothing of it yet"
_ACTIONS: Final = ("stop", "start", "restart")
_LINES: Final = 200
_MOST_LINES: Final = 1000
_FOLLOWED_WITHIN_SECONDS: Final = 3.0
"""How long an action waits for the scheduler; it follows in any case, when it can."""


def deployment_json(service: Service, state: ExposedState | None) -> dict[str, Any]:
    """What OSCAR tells of a service's deployment; other services than exposed ones have none."""
    if service.expose is None:
        return _job_service(service)
    shown: dict[str, Any] = {"service_name": service.name}
    if service.namespace:
        shown["namespace"] = service.namespace
    shown["state"] = (state.state if state is not None else DeploymentState.PENDING).value
    if reason := state.reason if state is not None else _NOT_TOLD:
        shown["reason"] = reason
    if state is not None:
        shown["last_transition_time"] = _time(state.last_transition)
    shown["active_instances"] = state.active if state is not None else 0
    shown["affected_instances"] = state.affected if state is not None else 0
    shown["resource_kind"] = "exposed_service"
    return shown


def _job_service(service: Service) -> dict[str, Any]:
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

    def __init__(self, catalogue: Catalogue, *, states: ExposedStates, wishes: Wishes, logs: ExposedLogs) -> None:
        self._catalogue = catalogue
        self._states = states
        self._wishes = wishes
        self._logs = logs

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
        state = await self._states.get(name) if definition.service.expose is not None else None
        return document(deployment_json(definition.service, state))

    async def logs(self, name: str, request: Request) -> Response:
        """The newest lines of an exposed service; others have none."""
        if (definition := await self._catalogue.get(name)) is None:
            return _missing(name)
        if definition.service.expose is None:
            return document(_no_lines(name, _NO_LOGS))
        try:
            answer = await self._logs.newest(name, _wanted_lines(request.query_params.get("tailLines", "")))
        except TransientError as error:
            return document(_no_lines(name, str(error)))
        if not answer.lines:
            return document(_no_lines(name, answer.error or _NO_LINES))
        with_times = flag(request, "timestamps")
        entries = [_entry(line, with_time=with_times) for line in answer.lines]
        return document({"service_name": name, "available": True, "entries": entries})

    async def act(self, name: str, request: Request) -> Response:
        """Stop, start or restart; the state afterwards."""
        if (definition := await self._catalogue.get(name)) is None:
            return empty(404)
        if definition.service.expose is None:
            return text(f"service {name} is not an exposed service", 400)
        action = request.url.path.rstrip("/").rpartition("/")[2]
        revision = await self._wishes.act(name, action, now=datetime.now(UTC))
        await self._states.wait_for(name, lambda state: state.wish >= revision, timeout=_FOLLOWED_WITHIN_SECONDS)
        return document(deployment_json(definition.service, await self._states.get(name)))


def _wanted_lines(asked: str) -> int:
    """As OSCAR takes it: what is no positive number is 200, and too many are 1000."""
    if not (asked.isascii() and asked.isdigit()) or int(asked) == 0:
        return _LINES
    return min(int(asked), _MOST_LINES)


def _entry(line: LogLine, *, with_time: bool) -> dict[str, str]:
    if with_time and line.at is not None:
        return {"timestamp": _time(line.at), "message": line.text}
    return {"message": line.text}


def _no_lines(name: str, message: str) -> dict[str, Any]:
    return {"service_name": name, "available": False, "message": message, "entries": []}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _missing(name: str) -> Response:
    return text(f"User does not have permission to read the service {name}, or it does not exist", 403)
