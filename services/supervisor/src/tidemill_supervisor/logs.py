"""Ships what a script writes to LOGS while it runs, and is never in the script's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from tidemill_common.bus import Log
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.invocation import LOG_WRITTEN, LogWritten
from tidemill_common.errors import PermanentError
from tidemill_supervisor.appending import append_surely
from tidemill_supervisor.domain.transcript import Batch, Transcript
from tidemill_supervisor.ports import Clock

log = structlog.get_logger()


class LogShipper:
    """Takes the output of one Attempt, and ships it a few times a second."""

    def __init__(
        self,
        bus_log: Log,
        transcript: Transcript,
        *,
        invocation: InvocationId,
        service: ServiceName,
        attempt: int,
        clock: Clock,
    ) -> None:
        self._log = bus_log
        self.transcript = transcript
        self._invocation = invocation
        self._service = service
        self._attempt = attempt
        self._clock = clock
        self._written = asyncio.Event()
        self._interval: timedelta | None = None
        self._following: asyncio.Task[None] | None = None
        self._unshipped: Batch | None = None

    def write(self, chunk: bytes) -> None:
        """Take what the script wrote next."""
        self.transcript.feed(chunk)
        self._note_written()

    def note(self, text: str) -> None:
        """Tell the user something about this Attempt, between the script's own lines."""
        self.transcript.note(text)
        self._note_written()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written at all."""
        return not self._written.is_set() and self._following is None

    @contextlib.asynccontextmanager
    async def shipping(self, interval: timedelta) -> AsyncIterator[None]:
        """Ship while the body runs, from the first line on."""
        self._interval = interval
        try:
            yield
        finally:
            self._interval = None
            if self._following is not None:
                self._following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._following

    async def ship_rest(self, timeout: timedelta) -> None:
        """Ship what is left; after `timeout` it is given up, for a log is worth less than the outcome."""
        self.transcript.finish()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._ship()
        except TimeoutError:
            log.warning("log lines were lost", invocation_id=self._invocation, attempt=self._attempt)

    def _note_written(self) -> None:
        self._written.set()
        if self._following is None and self._interval is not None:
            self._following = asyncio.create_task(self._follow(self._interval))

    async def _follow(self, interval: timedelta) -> None:
        while True:
            await self._written.wait()
            await asyncio.sleep(interval.total_seconds())
            self._written.clear()
            await self._ship()

    async def _ship(self) -> None:
        while (batch := self._unshipped or self.transcript.take()) is not None:
            self._unshipped = batch  # an interrupted append is repeated; its id makes it one record
            try:
                await append_surely(
                    self._log,
                    LOG_WRITTEN,
                    self._record(batch),
                    key=f"{self._service}.{self._invocation}",
                    message_id=f"{self._invocation}.log.{self._attempt}.{batch.first_line}",
                )
            except PermanentError as error:
                log.warning("log lines were refused", invocation_id=self._invocation, error=str(error))
            self._unshipped = None

    def _record(self, batch: Batch) -> LogWritten:
        return LogWritten(
            invocation_id=self._invocation,
            service=self._service,
            attempt=self._attempt,
            first_line=batch.first_line,
            at=self._clock(),
            lines=batch.lines,
            dropped_lines=batch.dropped_lines,
        )
