"""Watches of a real API server: what becomes of their connections."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, open_api

pytestmark = pytest.mark.kubernetes

KUBECONFIG = Path(os.environ.get("KUBECONFIG", ""))


async def test_a_watch_that_is_left_has_closed_its_connection_at_once() -> None:
    async with open_api(KUBECONFIG, None) as api:
        seen = asyncio.Event()
        watch = asyncio.create_task(_follow(api, seen))
        async with asyncio.timeout(60):
            await seen.wait()
        before = sockets()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        for _ in range(3):  # of the loop; an answer of the server takes longer
            await asyncio.sleep(0)
        assert sockets() == before - 1


async def _follow(api: KubernetesApi, seen: asyncio.Event) -> None:
    async for _ in api.watch("/api/v1/namespaces", silence=timedelta(seconds=90)):
        seen.set()


def sockets() -> int:
    """Open ones of this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads this folder
            found += os.readlink(descriptor).startswith("socket:")
    return found
