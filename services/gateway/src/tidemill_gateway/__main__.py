"""`python -m tidemill_gateway`: read the settings, run until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvloop

from tidemill_common.errors import TidemillError
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.telemetry import configure_logging
from tidemill_gateway.app import run
from tidemill_gateway.settings import Settings

_UNAVAILABLE = 75
"""EX_TEMPFAIL: a dependency is missing; start it again later."""


async def _main() -> None:
    settings = Settings()
    configure_logging(settings.telemetry, component="gateway")
    async with stop_on_signals() as stopping:
        await run(settings, stopping)


def main() -> int:
    """The exit code: 0 after an orderly stop."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main())
    except TidemillError as error:
        structlog.get_logger(__name__).error("gateway cannot run", error=str(error))
        return _UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
