"""Entry point: `python -m tidemill_storage_bridge`. Nothing else reads the environment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping

import structlog
from pydantic import ValidationError

from tidemill_common.errors import InvalidInputError, TidemillError, UnsupportedError
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.telemetry import configure_logging
from tidemill_storage_bridge.app import SOURCES, MakeSource, run
from tidemill_storage_bridge.settings import Settings

_log = structlog.get_logger(__name__)


def main(sources: Mapping[str, MakeSource] = SOURCES) -> int:
    """Run until SIGTERM or SIGINT; 0 after an orderly stop, 75 when a dependency is missing, 78 on wrong settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(f"settings: {error}\n")
        return 78
    configure_logging(settings.telemetry, component="storage-bridge")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(settings, sources))
    except Exception as error:  # noqa: BLE001 (the process's edge)
        return exit_code(error)
    return 0


def exit_code(error: Exception) -> int:
    """What failed: 78 for what an operator gave, 75 for a dependency, 70 for a bug of ours."""
    if isinstance(error, InvalidInputError | UnsupportedError):
        _log.error("storage-bridge is not set up right", error=str(error))
        return 78
    bugs = error.split(TidemillError)[1] if isinstance(error, ExceptionGroup) else error
    if bugs is None or isinstance(bugs, TidemillError):
        _log.error("storage-bridge cannot run", error=str(error), exc_info=error if bugs is None else None)
        return 75
    _log.error("storage-bridge failed", exc_info=error)
    return 70


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one, since most of the time of routing is the event loop's own; None: Python's own."""
    if sys.platform == "win32":
        return None
    import uvloop  # not on every platform

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(settings: Settings, sources: Mapping[str, MakeSource]) -> None:
    async with stop_on_signals() as stopping:
        await run(settings, stopping, sources=sources)


if __name__ == "__main__":
    sys.exit(main())
