"""Waiting for an Invocation's end."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit

ENDED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})
_FIRST, _LONGEST = 0.1, 1.0
_PATIENCE: Final = {Exit.NOT_FOUND: 15.0, Exit.CONNECTION: 60.0}
"""Seconds for which a kind of error may last: a call is acknowledged before routing has recorded it, and routing or the
gateway may be starting again."""


async def wait_for(client: GatewayClient, invocation: str, deadline: float | None) -> dict[str, Any]:
    """The Invocation at its end, or as it is at `deadline` (of `time.monotonic`).

    Raises:
        CliError: There is no such Invocation, or the gateway stays away.
    """
    pause, good = _FIRST, time.monotonic()
    while True:
        try:
            found = await client.invocation(invocation)
        except CliError as error:
            if time.monotonic() - good > _PATIENCE.get(error.code, 0):
                raise
        else:
            good = time.monotonic()
            if found["phase"] in ENDED or (deadline is not None and time.monotonic() >= deadline):
                return found
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * 1.5)
