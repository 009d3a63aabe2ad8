"""`/system/logs`: Invocations as jobs, what they wrote, and the last calls (OSCAR contract 1.10).

A job's name is its Invocation's id. Deleting one takes it out of the lists; the accounts keep it.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from tidemill_common.bus import Log
from tidemill_common.contracts.invocation import Phase
from tidemill_common.errors import NotFoundError
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.cancellation import cancel
from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.invocations import InvocationFilter, InvocationQueries
from tidemill_gateway.logs import InvocationLogs
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, flag, text
from tidemill_gateway.routes.oscar.jobs import access_json, job_json

_OPEN: Final = (Phase.PENDING, Phase.RUNNING)


class LogRoutes:
    """Lists, reads and deletes."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        invocations: InvocationQueries,
        logs: InvocationLogs,
        access: AccessLog,
        bus_log: Log,
        who: str,
    ) -> None:
        self._catalogue = catalogue
        self._invocations = invocations
        self._logs = logs
        self._access = access
        self._bus_log = bus_log
        self._who = who

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        jobs, job = "/system/logs/{name}", "/system/logs/{name}/{job}"
        routes.add_api_route("/system/logs", self.calls, methods=["GET"], summary="The last calls of /job and /run")
        routes.add_api_route(jobs, self.list, methods=["GET"], summary="A Service's jobs")
        routes.add_api_route(jobs, self.delete_all, methods=["DELETE"], status_code=204, summary="Delete jobs")
        routes.add_api_route(job, self.read, methods=["GET"], summary="What a job wrote")
        routes.add_api_route(job, self.delete, methods=["DELETE"], status_code=204, summary="Delete a job")
        return routes

    async def calls(self) -> Response:
        """What this replica remembers, oldest first."""
        return document({"logs": [access_json(access) for access in self._access.entries()]})

    async def list(self, name: str, request: Request) -> Response:
        """A page of the `jobs` map."""
        if await self._catalogue.get(name) is None:
            return empty(404)
        page = await self._invocations.jobs(name, cursor=request.query_params.get("page") or None)
        shown: dict[str, object] = {"jobs": {row.id: job_json(row) for row in page.rows}}
        if page.next is not None:
            shown |= {"next_page": page.next, "remaining_jobs": page.remaining}
        return document(shown)

    async def delete_all(self, name: str, request: Request) -> Response:
        """Those that succeeded; with `all=true` every job, and open ones are cancelled."""
        if await self._catalogue.get(name) is None:
            return empty(404)
        everything = flag(request, "all")
        if everything:
            await self._cancel_open(name)
        await self._invocations.hide(name, only_succeeded=not everything)
        return empty(204)

    async def read(self, name: str, job: str, request: Request) -> Response:
        """The text; 404 for a job that does not exist or has not begun."""
        if (row := await self._job(name, job)) is None:
            return empty(404)
        written = await self._logs.text(name, job, timestamps=flag(request, "timestamps"))
        if written is not None:
            return text(written)
        return empty(404) if row.phase is Phase.PENDING else text(row.log_tail or "")

    async def delete(self, name: str, job: str) -> Response:
        """An open one is cancelled."""
        if await self._catalogue.get(name) is None:
            return text(f"User does not have permission to read the service {name}, or it does not exist", 403)
        if (row := await self._job(name, job)) is None:
            return empty(404)
        if not row.is_terminal:
            await cancel(row, self._bus_log, principal=self._who)
        await self._invocations.hide_one(name, job)
        return empty(204)

    async def _job(self, name: str, job: str) -> InvocationRow | None:
        try:
            row = await self._invocations.get(job)
        except NotFoundError:
            return None
        return row if row.service == name and not row.hidden else None

    async def _cancel_open(self, name: str) -> None:
        for phase in _OPEN:
            cursor: str | None = None
            while True:
                page = await self._invocations.list(InvocationFilter(service=name, phase=phase), cursor=cursor)
                for row in page.rows:
                    await cancel(row, self._bus_log, principal=self._who)
                if (cursor := page.next) is None:
                    break
