"""Images that Services need, while the platform pulls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tidemill.client import GatewayClient
from tidemill.errors import CliError
from tidemill.output import err

_NOTICED: Final = 5.0
"""Seconds within which a scheduler that brings images itself has seen a new Service."""
_PAUSE: Final = 0.3


async def wait_for_images(client: GatewayClient, images: Collection[str]) -> dict[str, str]:
    """Return when these images are there, showing how far they are; those that cannot be had, with the reason.

    Where the launcher does not bring images itself (processes, clusters) there is nothing to wait for.
    """
    columns = (TextColumn("pull {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bars = {}
        deadline = time.monotonic() + _NOTICED
        while True:
            found = await _found(client, images)
            if found is None:
                return {}
            for image, view in found.items():
                if view["state"] == "pulling" and image not in bars:
                    bars[image] = progress.add_task(image, total=None)
                    if not err.is_terminal:
                        err.print(f"pulling {image}", markup=False)
                if image in bars:
                    progress.update(bars[image], completed=view["done_bytes"], total=view["total_bytes"] or None)
            if not _waits(found, images, is_new=time.monotonic() < deadline):
                return {image: view["message"] for image, view in found.items() if view["state"] == "failed"}
            await asyncio.sleep(_PAUSE)


def _waits(found: Mapping[str, Mapping[str, Any]], images: Collection[str], *, is_new: bool) -> bool:
    return any(view["state"] == "pulling" for view in found.values()) or (is_new and len(found) < len(set(images)))


async def _found(client: GatewayClient, images: Collection[str]) -> dict[str, Mapping[str, Any]] | None:
    """What the scheduler says of these images; None: it brings none."""
    try:
        scheduler = (await client.get("/v1/cluster"))["scheduler"] or {}
    except CliError:
        return None  # a user who may apply need not be one who may look
    if "images" not in scheduler:
        return None
    return {view["image"]: view for view in scheduler["images"] if view["image"] in images}
