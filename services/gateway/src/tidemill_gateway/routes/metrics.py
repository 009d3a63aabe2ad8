"""`GET /metrics` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from tidemill_gateway.dependencies import Dependencies


def router(deps: Dependencies) -> APIRouter:
    """The route; without credentials, as scrapers expect."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/metrics")
    async def metrics() -> Response:
        books = await deps.queries.books()
        return Response(deps.metrics.exposition(books.accounts), media_type=CONTENT_TYPE_LATEST)

    return routes
