"""The HTTP API as an OpenAPI document: `python -m tidemill_gateway.openapi > contracts/openapi.json`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.secrets import MemorySecretStore
from tidemill_common.settings import BusSettings
from tidemill_gateway.app import Opened, assemble, build_management
from tidemill_gateway.catalogue import CatalogueRules
from tidemill_gateway.catalogue.opening import OpenedStores, build_catalogue, open_s3
from tidemill_gateway.settings import Settings
from tidemill_gateway.sql.engine import open_database

_NOWHERE: Final = {"endpoint": "http://store.invalid", "access_key": "none", "secret_key": "none"}
"""Nothing is sent to it: routes are described, not called."""
_NAMED: Final = {
    "Location": {"description": "`/v1/invocations/{id}`", "schema": {"type": "string"}},
    "Tidemill-Invocation-Id": {"description": "The Invocation's id", "schema": {"type": "string"}},
}
_BYTES: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_NAME: Final = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Calls of one Service with the same key are one Invocation",
    "schema": {"type": "string"},
}
_TIMEOUT: Final = {
    "name": "timeout",
    "in": "query",
    "description": "Seconds to wait for the result; also the header `Tidemill-Timeout`",
    "schema": {"type": "number"},
}


async def document() -> dict[str, Any]:
    """The document."""
    with TemporaryDirectory() as directory:
        async with (
            open_bus(BusSettings(url="memory://"), name="openapi") as bus,
            open_database(f"sqlite+aiosqlite:///{directory}/none.db") as engine,
            open_s3(DEFAULT_PROVIDER, _NOWHERE) as store,
        ):
            secrets = MemorySecretStore()
            catalogue = build_catalogue(
                engine=engine, bus=bus, secrets=secrets, stores=OpenedStores(store), rules=CatalogueRules()
            )
            opened = Opened(bus=bus, engine=engine, secrets=secrets, store=store.objects, catalogue=catalogue)
            settings = Settings.model_validate({"password": "none", "database_url": str(Path(directory) / "none.db")})
            app = build_management(assemble(settings, opened, asyncio.Event()))
            with warnings.catch_warnings(action="ignore"):  # of ids that are not unique: ours are
                described = app.openapi()
    described["paths"] |= {"/job/{name}": {"post": _job()}, "/run/{name}": {"post": _run()}}
    _name_operations(described["paths"])
    return described


def _name_operations(paths: dict[str, Any]) -> None:
    """`get-v1-invocations-invocation`: the method and the path, so unique and stable."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            words = re.findall(r"[A-Za-z0-9]+", path)
            operation["operationId"] = "-".join([method, *words])


def render(described: dict[str, Any]) -> str:
    """The document as it is committed."""
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _job() -> dict[str, Any]:
    return _call("Call a Service; the result is in its outputs", [_NAME, _KEY]) | {
        "responses": _refusals() | {"201": {"description": "The bus has it", "headers": _NAMED}}
    }


def _run() -> dict[str, Any]:
    ends = {
        "200": {"description": "The script's answer", "headers": _NAMED, "content": _BYTES},
        "408": {"description": "The Service's own time limit", "headers": _NAMED, "content": _BYTES},
        "429": {"description": "Too many callers wait already: again after `Retry-After` seconds"},
        "500": {"description": "The script failed; its output", "headers": _NAMED, "content": _BYTES},
        "504": {"description": "No result in the caller's time; it is cancelled", "headers": _NAMED},
    }
    return _call("Call a Service and wait for its result", [_NAME, _KEY, _TIMEOUT]) | {"responses": _refusals() | ends}


def _call(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tags": ["calls"],
        "summary": summary,
        "description": "`Authorization: Bearer <the Service's token>`. The body is anything.",
        "parameters": parameters,
        "requestBody": {"content": _BYTES},
    }


def _refusals() -> dict[str, Any]:
    return {
        "401": {"description": "Not the token of this Service"},
        "413": {"description": "The body is too long"},
        "503": {"description": "The bus takes nothing now: again after `Retry-After` seconds"},
    }


if __name__ == "__main__":
    sys.stdout.write(render(asyncio.run(document())))
