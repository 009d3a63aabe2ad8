"""`python -m tidemill_common.bus.preparing create|migrate|wait`: the Streams of a bus that nobody's command set up.

`create` makes what is missing and never changes what is there; `migrate` changes it as well; both need the operator's
identity. `wait` returns when all is as this version wants it, with any component's identity: for what starts beside.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from enum import StrEnum

import structlog
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_common.bus import Bus, StreamAction
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import describe
from tidemill_common.errors import PermanentError, TidemillError, TransientError, UnavailableError, UnsupportedError
from tidemill_common.settings import BusSettings, TelemetrySettings
from tidemill_common.telemetry import configure_logging

_log = structlog.get_logger(__name__)


class Task(StrEnum):
    """What is to be done."""

    CREATE = "create"
    MIGRATE = "migrate"
    WAIT = "wait"


class Settings(BaseSettings):
    """Read from TIDEMILL_PREPARE_* variables."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_PREPARE_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    bus: BusSettings = BusSettings()
    telemetry: TelemetrySettings = TelemetrySettings(log_format="json")
    timeout: timedelta = timedelta(minutes=5)
    """How long the bus may be away, or without Streams."""
    pause: timedelta = timedelta(milliseconds=500)
    """Between two looks."""


async def prepare(task: Task, settings: Settings) -> None:
    """Do it, trying again while the bus is away.

    Raises:
        UnsupportedError: Streams differ, and `task` may not change them.
        TransientError: The time is over.
        PermanentError: The bus refuses us.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.timeout.total_seconds()
    while True:
        try:
            async with open_bus(settings.bus, name="prepare") as bus:
                await attempt(task, bus)
                return
        except TransientError as error:
            if loop.time() > deadline:
                raise
            _log.info("bus not ready", error=str(error))
        await asyncio.sleep(settings.pause.total_seconds())


async def attempt(task: Task, bus: Bus) -> None:
    """Once.

    Raises:
        UnavailableError: `wait`: Streams are missing yet, or being changed.
        UnsupportedError: `create`: one that is there differs.
    """
    plan = await bus.streams.plan()
    if not plan:
        return
    lines = "; ".join(describe(change) for change in plan)
    if task is Task.WAIT:
        raise UnavailableError(f"Streams are not as they should be: {lines}")
    if task is Task.CREATE and any(change.action is not StreamAction.CREATE for change in plan):
        raise UnsupportedError(f"Streams on the bus differ from this version's table: {lines}")
    await bus.streams.apply(plan)
    _log.info("streams prepared", changes=lines)


def main(arguments: list[str]) -> int:
    """0: done; 75: again later may help; 78: only a person can."""
    try:
        (name,) = arguments
        task, settings = Task(name), Settings()
    except (ValueError, ValidationError) as error:
        sys.stderr.write(f"{__doc__}\n{error}\n")
        return 78
    configure_logging(settings.telemetry, component="prepare")
    try:
        asyncio.run(prepare(task, settings))
    except PermanentError as error:
        _log.error("bus cannot be prepared", error=str(error))
        return 78
    except TidemillError as error:
        _log.error("bus cannot be prepared now", error=str(error))
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
