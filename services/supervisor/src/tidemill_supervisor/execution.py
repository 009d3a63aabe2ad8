"""Run one script within its limits: time, disk, and our own wish to stop. Nothing that it started outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.outcome import Ended, Outcome, classify
from tidemill_supervisor.ports import Command, ContainerEndedError, Running, Scripts, Sink, StartError
from tidemill_supervisor.workspace import is_disk_full, used_bytes

_SCAN_SHARE: Final = 20
"""A look at the workspace takes at most one part in twenty of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one run."""

    timeout: timedelta | None = None
    timeout_reason: Reason = Reason.TIMEOUT
    """`timeout` is the Service's, or what is left until the Invocation's deadline (`deadline-passed`)."""
    disk_bytes: int | None = None
    grace: timedelta = timedelta(seconds=5)
    """Between SIGTERM and SIGKILL."""
    scan_interval: timedelta = timedelta(seconds=1)


def time_limit(timeout: timedelta | None, deadline: datetime | None, now: datetime) -> tuple[timedelta | None, Reason]:
    """How long a run may take, and why no longer: the Service's `timeout`, or what is left until the deadline."""
    if deadline is not None and (timeout is None or deadline - now < timeout):
        return deadline - now, Reason.DEADLINE_PASSED
    return timeout, Reason.TIMEOUT


async def execute(scripts: Scripts, command: Command, place: Place, limits: Limits, sink: Sink) -> Outcome:
    """Run a script to its end, whichever comes first. Cancelled: it is stopped in the same way before this returns."""
    kills = scripts.memory_kills()
    try:
        running = scripts.start(command, place, sink)
    except StartError as error:
        return Outcome(reason=Reason.START_FAILED, message=str(error))
    try:
        stopped_for = await _run_until_limit(running, place.root, limits)
        if stopped_for is not None:
            await stop_script(running, limits.grace)
        status = await running.wait()
    except StartError as error:
        return Outcome(reason=Reason.START_FAILED, message=str(error))
    except asyncio.CancelledError:
        await stop_script(running, limits.grace)
        raise
    finally:
        await running.clear()
    ended = Ended(
        status=status,
        stopped_for=stopped_for,
        out_of_memory=scripts.memory_kills() > kills,
        disk_full=status != 0 and is_disk_full(place.root),
    )
    return classify(ended, timeout=limits.timeout, disk_limit_bytes=limits.disk_bytes)


async def _run_until_limit(running: Running, workspace: Path, limits: Limits) -> Reason | None:
    """None: it ended by itself; else the limit that it reached."""
    try:
        async with asyncio.timeout(None if limits.timeout is None else limits.timeout.total_seconds()):
            if limits.disk_bytes is None:
                await running.wait()
                return None
            return await _run_beside_watch(running, workspace, limits.disk_bytes, limits.scan_interval)
    except TimeoutError:
        return limits.timeout_reason


async def _run_beside_watch(running: Running, workspace: Path, limit: int, interval: timedelta) -> Reason | None:
    script = asyncio.create_task(running.wait())
    watch = asyncio.create_task(grown_beyond(workspace, limit, interval))
    try:
        await asyncio.wait({script, watch}, return_when=asyncio.FIRST_COMPLETED)
        return None if script.done() else Reason.DISK_LIMIT
    finally:
        for task in (script, watch):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def grown_beyond(workspace: Path, limit: int, interval: timedelta) -> None:
    """Return when the workspace takes more than `limit` bytes."""
    pause = interval.total_seconds()
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        if await asyncio.to_thread(used_bytes, workspace) > limit:
            return
        pause = max(interval.total_seconds(), _SCAN_SHARE * (time.monotonic() - begun))


async def stop_script(running: Running, grace: timedelta) -> None:
    """SIGTERM, and SIGKILL when that does not help in time."""
    running.signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError, StartError, ContainerEndedError):
        async with asyncio.timeout(grace.total_seconds()):
            await running.wait()
    running.signal(signal.SIGKILL)
