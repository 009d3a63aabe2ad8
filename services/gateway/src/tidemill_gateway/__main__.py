"""`python -m tidemill_gateway`: read the settings, run until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvloop
from pydantic import ValidationError

from tidemill_common.errors import TidemillError
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.telemetry import configure_logging
from tidemill_gateway.app import run
from tidemill_gateway.settings import Settings

_UNAVAILABLE = 75
"""EX_TEMPFAIL: a dependency is missing; start it again later."""
_WRONG_SETTING = 78
"""EX_CONFIG: starting it again changes nothing."""


async def _main(settings: Settings) -> None:
    configure_logging(settings.telemetry, component="gateway")
    async with stop_on_signals() as stopping:
        await run(settings, stopping)


def main() -> int:
    """The exit code: 0 after an orderly stop."""
    log = structlog.get_logger(__name__)
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors(include_input=False, include_url=False):
            log.error("wrong setting", setting=".".join(str(part) for part in wrong["loc"]), problem=wrong["msg"])
        return _WRONG_SETTING
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(settings))
    except TidemillError as error:
        log.error("gateway cannot run", error=str(error))
        return _UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
