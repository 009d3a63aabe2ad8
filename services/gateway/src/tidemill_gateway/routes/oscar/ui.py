"""`/` and `/ui/`: a dashboard's files where an operator put them, else a page that says what this is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse

from tidemill_gateway.routes.oscar.answers import OscarRoute, page_not_found

_MOVED: Final = '<a href="/ui/">Moved Permanently</a>.\n\n'
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>tidemill</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:4rem auto;padding:0 1rem;color:#222}
code{background:#f2f2f2;padding:.1rem .3rem;border-radius:3px}</style></head>
<body>
<h1>tidemill</h1>
<p>This gateway runs a service for each file that arrives in a bucket, and for each call. It answers OSCAR's clients
(<code>oscar-cli</code>, <code>oscar-python</code>, the OSCAR dashboard) below <code>/system</code>, <code>/job</code>
and <code>/run</code>, and its own API below <code>/v1</code>.</p>
<ul>
<li><a href="/health">/health</a>: whether it answers</li>
<li><a href="/docs">/docs</a>: the API</li>
<li><a href="/metrics">/metrics</a>: figures for Prometheus</li>
</ul>
<p>No dashboard is installed here. Any OSCAR dashboard can use this address as its endpoint, or an operator can name
the folder of its files in <code>TIDEMILL_GATEWAY_UI_DIR</code>.</p>
</body>
</html>
"""


class UiRoutes:
    """Static files, without credentials.

    Args:
        directory: The dashboard's files; None: there are none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory.resolve() if directory else None

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute, include_in_schema=False)
        routes.add_api_route("/", to_ui, methods=["GET"])
        routes.add_api_route("/ui", to_ui, methods=["GET"])
        routes.add_api_route("/ui/{path:path}", self.file, methods=["GET"])
        return routes

    async def file(self, path: str) -> Response:
        """One file of the dashboard; the start page for the folder itself."""
        if self._directory is None:
            return HTMLResponse(_PAGE) if path in ("", "index.html") else page_not_found()
        target = (self._directory / (path or "index.html")).resolve()
        if not target.is_relative_to(self._directory) or not target.is_file():
            return page_not_found()
        return FileResponse(target)


async def to_ui() -> Response:
    """301."""
    return HTMLResponse(_MOVED, 301, {"Location": "/ui/"})
