"""`/system/services`: the Services themselves (OSCAR contract 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from tidemill_common.contracts.service import Service
from tidemill_common.errors import InvalidInputError, NotFoundError
from tidemill_common.fdl import service_json
from tidemill_common.secrets import SecretStore
from tidemill_gateway.catalogue import Catalogue, Definition, ImageRefusedError
from tidemill_gateway.catalogue.errors import VolumeChangedError
from tidemill_gateway.catalogue.folders import buckets_of
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, flag, posted, text
from tidemill_gateway.routes.oscar.deployment import deployment_json
from tidemill_gateway.routes.oscar.platform_store import PlatformStore

_INVALID: Final = "The service specification"
_DELETE_DATA: Final = "tidemill-delete-data"


class ServiceRoutes:
    """Create, read, update and delete."""

    def __init__(
        self, *, catalogue: Catalogue, secrets: SecretStore, store: PlatformStore, who: str, states: ExposedStates
    ) -> None:
        self._catalogue = catalogue
        self._secrets = secrets
        self._store = store
        self._who = who
        self._states = states

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        one = "/system/services/{name}"
        routes.add_api_route("/system/services", self.create, methods=["POST"], status_code=201, summary="Create")
        routes.add_api_route("/system/services", self.update, methods=["PUT"], status_code=204, summary="Update")
        routes.add_api_route("/system/services", self.list, methods=["GET"], summary="List Services")
        routes.add_api_route(one, self.get, methods=["GET"], summary="One Service")
        routes.add_api_route(one, self.remove, methods=["DELETE"], status_code=204, summary="Remove a Service")
        return routes

    async def create(self, request: Request) -> Response:
        """201 and nothing else."""
        body = await posted(request, what=_INVALID)
        try:
            await self._catalogue.create(body, who=self._who)
        except InvalidInputError as error:
            raise InvalidInputError(f"{_INVALID} is not valid: {error}") from error
        except ImageRefusedError as error:
            return text(f"Error creating the service: {error}", 500)
        return empty(201)

    async def update(self, request: Request) -> Response:
        """204 and nothing else, also when nothing is different."""
        body = await posted(request, what=_INVALID)
        try:
            await self._catalogue.update(body, who=self._who)
        except NotFoundError:
            return empty(404)
        except VolumeChangedError:
            raise
        except InvalidInputError as error:
            raise InvalidInputError(f"{_INVALID} is not valid: {error}") from error
        except ImageRefusedError as error:
            return text(f"Error updating the service: {error}", 500)
        return empty(204)

    async def list(self, request: Request) -> Response:
        """Every Service; `[]` when there is none."""
        definitions = await self._catalogue.all()
        shown = [await self._shown(definition, request) for definition in definitions]
        return document(shown)

    async def get(self, name: str, request: Request) -> Response:
        """One Service."""
        if (definition := await self._catalogue.get(name)) is None:
            return empty(404)
        return document(await self._shown(definition, request))

    async def remove(self, name: str, request: Request) -> Response:
        """204; data stay unless `delete_data=true` (or the header `Tidemill-Delete-Data: true`) asks otherwise."""
        try:
            service = await self._catalogue.remove(name, who=self._who)
        except NotFoundError:
            return empty(404)
        if flag(request, "delete_data") or request.headers.get(_DELETE_DATA, "").lower() == "true":
            await self._remove_data(service)
        return empty(204)

    async def _remove_data(self, service: Service) -> None:
        others = await self._catalogue.all()
        in_use = frozenset[str]().union(*(buckets_of(other.service) for other in others))
        await self._catalogue.buckets.remove_of(service, in_use=in_use)

    async def _shown(self, definition: Definition, request: Request) -> Mapping[str, Any]:
        service = definition.service
        record = await self._secrets.get(service.name)
        shown = service_json(
            service,
            token=definition.token,
            store=await self._store.credentials(),
            providers=record.providers if record else {},
        )
        if "deployment" in request.query_params.get("include", "").split(","):
            state = await self._states.get(service.name) if service.expose is not None else None
            shown["deployment"] = deployment_json(service, state)
        return shown
