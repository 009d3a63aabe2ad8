"""`/v1/invocations`: look up, list, cancel, retry, result, logs and the live tail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import AwareDatetime

from tidemill_common.contracts.invocation import Phase, Reason
from tidemill_common.errors import NotFoundError
from tidemill_gateway.auth import admin
from tidemill_gateway.cancellation import cancel
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.invocations import InvocationFilter
from tidemill_gateway.logs import formatted, new_lines
from tidemill_gateway.repeats import Repeats
from tidemill_gateway.routes.v1.access import Reader, Readers
from tidemill_gateway.routes.v1.views import InvocationList, InvocationView, LogView, Started
from tidemill_gateway.tailing import News, Seen, Tails

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def router(deps: Dependencies, repeats: Repeats) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/invocations", tags=["invocations"])
    reader = Depends(Readers(deps))

    async def own(
        invocation: Annotated[str, Path(min_length=1, max_length=64)], reading: Reader = reader
    ) -> InvocationRow:
        row = await deps.queries.await_known(invocation)
        reading.require(row.service)
        return row

    named = Depends(own)
    _finding(routes, deps, reader, named)
    _acting(routes, deps, repeats, named)
    _output(routes, deps, named)
    return routes


# `reader` and `named` are defaults in these: postponed annotations cannot name what is local.
def _finding(routes: APIRouter, deps: Dependencies, reader: Any, named: Any) -> None:
    @routes.get("", summary="List, newest first")
    async def list_invocations(
        reading: Reader = reader,
        service: str | None = None,
        phase: Phase | None = None,
        dead: bool | None = None,
        reason: Reason | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        redrive_of: str | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> InvocationList:
        reading.require(service)
        wanted = InvocationFilter(
            service=service,
            phase=phase,
            dead=dead,
            reason=reason,
            since=since,
            until=until,
            redrive_of=redrive_of,
        )
        return InvocationList.of(await deps.queries.list(wanted, cursor=cursor, limit=limit))

    @routes.get("/{invocation}", summary="One Invocation")
    async def get_invocation(row: InvocationRow = named) -> InvocationView:
        return InvocationView.of(row)


def _acting(routes: APIRouter, deps: Dependencies, repeats: Repeats, named: Any) -> None:
    only_admin = [Depends(admin(deps.admin))]

    @routes.post("/{invocation}/cancel", status_code=202, dependencies=only_admin, summary="Cancel")
    async def cancel_invocation(row: InvocationRow = named) -> InvocationView:
        await cancel(row, deps.bus.log, principal=deps.admin.username)
        return InvocationView.of(await deps.queries.await_ended(row.id))

    @routes.post("/{invocation}/retry", status_code=201, dependencies=only_admin, summary="Run an ended one again")
    async def retry_invocation(response: Response, row: InvocationRow = named) -> Started:
        new = await repeats.retry(row)
        response.headers["location"] = f"/v1/invocations/{new}"
        return Started(id=new, redrive_of=row.id)


def _output(routes: APIRouter, deps: Dependencies, named: Any) -> None:
    tails = Tails(deps.queries, deps.logs, deps.changes, deps.stopping)

    @routes.get("/{invocation}/result", response_class=Response, summary="The answer of a direct call, as it came")
    async def get_result(row: InvocationRow = named) -> Response:
        body = row.result
        if row.result_ref is not None:
            body = await deps.payloads.get(row.result_ref)
        if body is None:
            raise NotFoundError(f"invocation {row.id} has no result: it is {row.phase}")
        return Response(body, media_type="application/octet-stream")

    @routes.get("/{invocation}/logs", response_class=PlainTextResponse, summary="What user code wrote")
    async def get_logs(row: InvocationRow = named, follow: bool = False, timestamps: bool = False) -> Response:
        if follow:
            lines = _text(tails.tail(row, Seen()), timestamps=timestamps)
            return StreamingResponse(lines, media_type="text/plain; charset=utf-8", headers=_STREAM_HEADERS)
        text = await deps.logs.text(row.service, row.id, timestamps=timestamps)
        return PlainTextResponse(text if text is not None else row.log_tail or "")

    @routes.get("/{invocation}/tail", response_class=StreamingResponse, summary="Changes and lines as they happen")
    async def tail_invocation(
        row: InvocationRow = named, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """Server-sent events `invocation`, `log` and at last `end`; resumes behind `Last-Event-ID`."""
        events = _events(tails.tail(row, Seen.parse(last_event_id)))
        return StreamingResponse(events, media_type="text/event-stream", headers=_STREAM_HEADERS)


async def _text(tail: AsyncGenerator[News, None], *, timestamps: bool) -> AsyncIterator[str]:
    numbers: dict[int, int] = {}
    async with aclosing(tail):
        async for news in tail:
            if news.log is not None:
                for line in new_lines(news.log, numbers):
                    yield formatted(line, timestamps=timestamps) + "\n"


async def _events(tail: AsyncGenerator[News, None]) -> AsyncIterator[str]:
    async with aclosing(tail):
        async for news in tail:
            yield _event(news)


def _event(news: News) -> str:
    """One server-sent event; a comment when there is no news, so that proxies keep the connection."""
    if news.row is not None:
        name, data = "invocation", InvocationView.of(news.row).model_dump_json()
    elif news.log is not None:
        name, data = "log", LogView.of(news.log).model_dump_json()
    elif news.ended:
        name, data = "end", "{}"
    else:
        return ": nothing new\n\n"
    return f"event: {name}\nid: {news.seen}\ndata: {data}\n\n"
