"""What every test that talks to a whole platform does: read a list to its end, open the platform's own store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_store


def every_invocation(ask: Callable[[str, str], httpx.Response], service: str) -> list[dict[str, Any]]:
    """All Invocations of one Service, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query = f"/v1/invocations?service={service}&limit=500" + (f"&cursor={cursor}" if cursor else "")
        page = ask("GET", query).json()
        found += page["items"]
        cursor = page["next"] or ""
        if not cursor:
            return found


def own_store(endpoint: str, *, access_key: str, secret_key: str) -> AbstractAsyncContextManager[ObjectStore]:
    """The platform's own store."""
    keys = {"access_key": access_key, "secret_key": secret_key}
    return open_store("minio.default", {"endpoint": endpoint, **keys, "region": "us-east-1", "verify": True})
