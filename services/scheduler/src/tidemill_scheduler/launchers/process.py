"""Workers as child processes of this machine. No isolation beyond what the supervisor does: for laptops and tests.

Each Worker is a session of its own, so it outlives the scheduler; a record file and a mark in the environment let the
next scheduler process adopt it. When a Worker ends, everything that it left is killed and its workspace is removed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.errors import UnavailableError
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.identities import IdentityFiles
from tidemill_scheduler.launchers.environment import CREDENTIALS_FILE
from tidemill_scheduler.launchers.processes import (
    MARK,
    ProcessId,
    kill_leftovers,
    reap,
    signal_process,
    wait_for_exit,
)
from tidemill_scheduler.launchers.records import WorkerRecord, WorkerRecords
from tidemill_scheduler.launchers.worker_logs import WorkerLogs
from tidemill_scheduler.ports import RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec

log = structlog.get_logger()
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What a Worker takes over from the scheduler's own environment, beside its settings."""


@dataclass(slots=True)
class _Child:
    """A Worker's process while it runs."""

    record: WorkerRecord
    pidfd: int
    is_adopted: bool
    has_ended: bool = False
    """It is being cleaned up after: `pidfd` is closed, and its number may be another's."""


class ProcessLauncher:
    """Starts Workers as processes of this machine.

    Args:
        command: What a Worker runs.
        environment: Its settings, without secrets; `{worker}` and `{service}` in values are filled in.
        state_dir: Where records are kept; one scheduler at a time uses it.
        workspace_root: Each Worker has a directory of its id here, removed with it.
        log_dir: Output of each Worker is `<id>.log` here.
        identities: Bus identities for the Workers of each Service; None: the one that `environment` names.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        state_dir: Path,
        workspace_root: Path,
        log_dir: Path,
        identities: IdentityFiles | None = None,
    ) -> None:
        self._identities = identities
        self._keeping: asyncio.Task[None] | None = None
        self._command = list(command)
        self._environment = dict(environment)
        self._records = WorkerRecords(state_dir / "workers")
        self._workspace_root = workspace_root
        self._logs = WorkerLogs(log_dir)
        self._children: dict[WorkerId, _Child] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[WorkerEnded] = asyncio.Queue()

    async def adopt(self) -> None:
        """Watch the Workers that earlier scheduler processes started; clean up after those that have ended."""
        for record in list(self._records.all()):
            if record.spec.id not in self._children:
                await self._adopt(record)
        if self._identities is not None and self._keeping is None:
            self._keeping = asyncio.create_task(self._identities.keep(self._services), name="bus identities")

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        """Start it in a session of its own; one that runs already is left alone.

        Raises:
            UnavailableError: This machine cannot start it now (memory, processes, disk).
        """
        if worker.id in self._children:
            return
        record = WorkerRecord(spec=worker, started_at=datetime.now(UTC))
        try:
            self._records.write(record)
            self._watch(self._spawn(record), is_adopted=False)
        except OSError as error:
            self._records.remove(worker.id)
            raise UnavailableError(f"start Worker {worker.id}: {error}") from error

    async def stop(self, worker: WorkerId) -> None:
        """SIGTERM, once."""
        child = self._children.get(worker)
        if child is None or child.has_ended or child.record.is_draining:
            return
        child.record = replace(child.record, is_draining=True)
        self._records.write(child.record)
        signal_process(child.pidfd, signal.SIGTERM)

    async def kill(self, worker: WorkerId) -> None:
        """SIGKILL; what it started follows when it has ended."""
        if (child := self._children.get(worker)) is not None and not child.has_ended:
            child.record = replace(child.record, is_draining=True)
            signal_process(child.pidfd, signal.SIGKILL)

    def workers(self) -> Sequence[RunningWorker]:
        """All that have not ended, or are being cleaned up after."""
        return [
            RunningWorker(
                spec=child.record.spec,
                started_at=child.record.started_at,
                is_draining=child.record.is_draining,
                is_adopted=child.is_adopted,
            )
            for child in self._children.values()
        ]

    async def exits(self) -> AsyncIterator[WorkerEnded]:
        """Each Worker's end."""
        while True:
            yield await self._ended.get()

    async def notices(self) -> AsyncIterator[WorkerNotice]:
        """None: user code has no container of its own."""
        await asyncio.Event().wait()
        yield  # type: ignore[misc]  # never reached; makes this a generator

    def pool(self) -> Pool | None:
        """This machine, as the settings say."""
        return None

    async def close(self) -> None:
        """Stop watching. Workers go on; the next scheduler process adopts them."""
        tasks = [*self._watches, *((self._keeping,) if self._keeping is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, record: WorkerRecord) -> WorkerRecord:
        worker = record.spec.id
        (self._workspace_root / worker).mkdir(mode=0o700, parents=True, exist_ok=True)
        output = self._logs.open(worker)
        try:
            pid = os.posix_spawnp(
                self._command[0],
                self._command,
                self._environment_of(record.spec),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGTERM, signal.SIGINT],  # Python ignores SIGPIPE, children would too
            )
        finally:
            os.close(output)
        spawned = replace(record, process=ProcessId.of(pid))
        self._records.write(spawned)
        return spawned

    def _environment_of(self, worker: WorkerSpec) -> dict[str, str]:
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        settings = {
            "TIDEMILL_SUPERVISOR_SERVICE": worker.service,
            "TIDEMILL_SUPERVISOR_WORKER_ID": worker.id,
            "TIDEMILL_SUPERVISOR_WORKSPACE_DIR": str(self._workspace_root),
        }
        if self._identities is not None:
            settings[CREDENTIALS_FILE] = str(self._identities.provide(worker.service))
        return {**own, **self._environment, **settings, MARK: worker.id}

    def _services(self) -> frozenset[ServiceName]:
        """Those with Workers."""
        return frozenset(child.record.spec.service for child in self._children.values())

    async def _adopt(self, record: WorkerRecord) -> None:
        try:
            if record.process is None:
                raise ProcessLookupError("its start was interrupted")
            self._watch(record, is_adopted=True)
            log.info("worker adopted", worker=record.spec.id, service=record.spec.service)
        except ProcessLookupError:
            await asyncio.to_thread(self._clean_up, record)
            log.info("ended worker cleaned up", worker=record.spec.id, service=record.spec.service)

    def _watch(self, record: WorkerRecord, *, is_adopted: bool) -> None:
        assert record.process is not None
        child = _Child(record, record.process.open(), is_adopted)
        self._children[record.spec.id] = child
        task = asyncio.create_task(self._see_off(child), name=f"watch {record.spec.id}")
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _see_off(self, child: _Child) -> None:
        """Wait for its end, then leave nothing of it."""
        try:
            await wait_for_exit(child.pidfd)
            exit_code, number = reap(child.pidfd)
        finally:
            child.has_ended = True
            os.close(child.pidfd)
        spec = child.record.spec
        last_line = self._logs.last_line(spec.id)
        await asyncio.to_thread(self._clean_up, child.record)
        del self._children[spec.id]
        if self._identities is not None and spec.service not in self._services():
            self._identities.remove(spec.service)
        self._ended.put_nowait(
            WorkerEnded(
                spec=spec,
                was_draining=child.record.is_draining,
                exit_code=exit_code,
                signal=number,
                last_line=last_line,
            )
        )

    def _clean_up(self, record: WorkerRecord) -> None:
        session = None if record.process is None else record.process.pid
        if killed := kill_leftovers(record.spec.id, session):
            log.warning("worker left processes, they were killed", worker=record.spec.id, processes=killed)
        shutil.rmtree(self._workspace_root / record.spec.id, ignore_errors=True)
        self._logs.tidy()
        self._records.remove(record.spec.id)
