"""`GET /system/info`: which OSCAR this behaves like.

The version decides what the dashboard sends and shows (OSCAR contract 9.3). From v4.1.0 on it sends ports as arrays and
expects them back, which oscar-cli cannot read; from v3.8.0 on it offers managed volumes, which are not here. v3.7.0 has
what both can use: ports as numbers, deployment states and logs, buckets. Clients in Python do not look at it.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import APIRouter, Response

from tidemill_gateway.routes.oscar.answers import OscarRoute, document

COMPATIBLE_VERSION: Final = "v3.7.0"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=OscarRoute)
    routes.add_api_route("/system/info", info, methods=["GET"], summary="Version and backend")
    return routes


async def info() -> Response:
    """What `oscar-cli cluster info` prints."""
    machine = platform.machine()
    return document(
        {
            "version": COMPATIBLE_VERSION,
            "git_commit": f"tidemill-{own_version()}",
            "architecture": _ARCHITECTURES.get(machine, machine),
            "kubernetes_version": "",
            "serverless_backend": {"name": "tidemill", "version": own_version()},
        }
    )


def own_version() -> str:
    """Version of this package."""
    try:
        return version("tidemill-gateway")
    except PackageNotFoundError:
        return "0"
