"""Entry point: `python -m tidemill_scheduler`. Exits 0 after an orderly stop, 75 without the bus, 70 on a bug."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import structlog

from tidemill_common.errors import TidemillError, TransientError
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.telemetry import configure_logging
from tidemill_scheduler.app import run
from tidemill_scheduler.settings import Settings


async def _main(settings: Settings) -> int:
    log = structlog.get_logger()
    async with stop_on_signals() as stopping:
        try:
            await run(settings, stopping)
        except TransientError as error:
            log.error("scheduler ends, something it needs is missing", error=str(error))
            return os.EX_TEMPFAIL
        except TidemillError as error:
            log.error("scheduler ends", error=str(error))
            return os.EX_SOFTWARE
        except Exception:  # the last place that can say what happened
            log.exception("scheduler failed")
            return os.EX_SOFTWARE
    return os.EX_OK


def main() -> None:
    """Read settings, run, exit."""
    settings = Settings()
    gc.set_threshold(50_000, 20, 50)  # a round makes many values that live as long as the round, and no cycles
    configure_logging(settings.telemetry, component="scheduler")
    sys.exit(asyncio.run(_main(settings)))


if __name__ == "__main__":
    main()
