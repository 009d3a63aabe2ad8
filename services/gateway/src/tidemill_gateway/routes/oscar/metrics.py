"""`/system/metrics` (OSCAR contract 12), out of our own Invocations: no Prometheus and no log store is needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.errors import InvalidInputError
from tidemill_common.quantity import millicores
from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, flag
from tidemill_gateway.routes.oscar.jobs import instant
from tidemill_gateway.routes.oscar.metric_figures import (
    CSV_COLUMNS,
    SERVICE_METRICS,
    SOURCES,
    breakdown,
    service_figures,
    totals,
)
from tidemill_gateway.routes.oscar.usage_rows import read_usage

_USUAL: Final = timedelta(hours=24)


class MetricRoutes:
    """Totals, one Service, breakdowns."""

    def __init__(self, *, catalogue: Catalogue, engine: AsyncEngine) -> None:
        self._catalogue = catalogue
        self._engine = engine

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        path = "/system/metrics"
        routes.add_api_route(path, self.summary, methods=["GET"], summary="Figures of a period")
        routes.add_api_route(f"{path}/breakdown", self.grouped, methods=["GET"], summary="Figures by service or user")
        routes.add_api_route(f"{path}/{{name}}", self.one, methods=["GET"], summary="Figures of one Service")
        return routes

    async def summary(self, request: Request) -> Response:
        """Totals and where they come from."""
        try:
            start, end = period(request.query_params)
        except InvalidInputError as error:
            return _wrong(error)
        rows = await read_usage(self._engine, start, end)
        figures = totals(rows, await self._cores())
        return document(_period(start, end) | {"totals": figures, "sources": _sources()})

    async def one(self, name: str, request: Request) -> Response:
        """Every metric, or the one that `metric` names; zeros for a Service that nobody called."""
        metric = request.query_params.get("metric", "")
        try:
            start, end = period(request.query_params)
            _check_choice(metric, ("", *SERVICE_METRICS), "metric")
        except InvalidInputError as error:
            return _wrong(error)
        rows = [row for row in await read_usage(self._engine, start, end) if row.service == name]
        figures = service_figures(rows, await self._cores())
        if metric:
            shown = {"service_id": name, "metric": metric, **_period(start, end)}
            return document(shown | _figure(metric, figures[metric]))
        metrics = [{"metric": key, **_figure(key, value)} for key, value in figures.items()]
        return document({"service_name": name, **_period(start, end), "metrics": metrics})

    async def grouped(self, request: Request) -> Response:
        """Items by Service, user or country, as JSON or CSV."""
        query, users = request.query_params, flag(request, "include_users")
        group_by, form = query.get("group_by", ""), query.get("format") or "json"
        try:
            start, end = period(query)
            _check_choice(group_by, tuple(CSV_COLUMNS), "group_by")
            _check_choice(form, ("json", "csv"), "format")
            if users and (group_by, form) == ("service", "csv"):
                raise InvalidInputError("include_users is not supported for csv output")
        except InvalidInputError as error:
            return _wrong(error)
        items = breakdown(await read_usage(self._engine, start, end), group_by, include_users=users)
        if form == "csv":
            return Response(csv_text(items, CSV_COLUMNS[group_by]), media_type="text/csv")
        return document(_period(start, end) | {"group_by": group_by, "items": items})

    async def _cores(self) -> dict[str, float]:
        services = [definition.service for definition in await self._catalogue.all()]
        return {service.name: millicores(service.cpu) / 1000 for service in services}


def period(query: Mapping[str, str], *, now: datetime | None = None) -> tuple[datetime, datetime]:
    """`start` and `end` of the query; the last 24 hours unless it says otherwise.

    Raises:
        InvalidInputError: One is not an instant of RFC 3339, or they are in the wrong order.
    """
    end = _instant(query.get("end"), "end") or now or datetime.now(UTC)
    start = _instant(query.get("start"), "start") or end - _USUAL
    if end <= start:
        raise InvalidInputError("end must be after start")
    return start, end


def _instant(text: str | None, name: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a `+` that was not escaped arrives as a blank
    except ValueError as error:
        raise InvalidInputError(f"invalid {name} timestamp") from error
    if at.tzinfo is None:
        raise InvalidInputError(f"invalid {name} timestamp")
    return at


def _check_choice(value: str, choices: Sequence[str], name: str) -> None:
    if value not in choices:
        raise InvalidInputError(f"invalid {name}")


def _wrong(error: InvalidInputError) -> Response:
    return document({"error": str(error)}, 400)


def _period(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": instant(start), "end": instant(end)}


def _sources() -> list[dict[str, str]]:
    now = instant(datetime.now(UTC))
    return [source | {"last_updated": now} for source in SOURCES]


def _figure(metric: str, value: float) -> dict[str, Any]:
    unit = SERVICE_METRICS[metric]
    return {"value": value, **({"unit": unit} if unit else {}), "sources": _sources()}


def csv_text(items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Items as CSV with a header; what an item lacks is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for item in items:
        writer.writerow("" if item.get(column) in (None, []) else item[column] for column in columns)
    return out.getvalue()
