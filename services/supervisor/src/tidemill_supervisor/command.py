"""The life of the process: settings, run, exit code. Nothing else reads the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import structlog
import uvloop

from tidemill_common.errors import TransientError
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.telemetry import configure_logging
from tidemill_supervisor.app import run
from tidemill_supervisor.settings import Settings

log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Run until a signal."""
    async with stop_on_signals() as stopping:
        await run(settings, stopping)


def main() -> int:
    """Run a Worker; returns its exit code: 0 after an orderly end, 75 without bus or definition, 70 on a bug."""
    settings = Settings()
    configure_logging(settings.telemetry, component="supervisor")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except Exception as error:
        causes = list(_causes(error))
        log.error("worker ended", error="; ".join(f"{type(cause).__name__}: {cause}" for cause in causes))
        if all(isinstance(cause, TransientError) for cause in causes):
            return os.EX_TEMPFAIL
        log.exception("worker failed")
        return os.EX_SOFTWARE
    return os.EX_OK


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
