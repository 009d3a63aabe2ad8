"""Records of started Workers as files, so that the next scheduler process finds them after kill -9 of this one.

A record is written before its Worker is started, and once more with the process: a scheduler that dies between the two
leaves a record without process, whose Worker is found by its mark in the environment and ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import structlog

from tidemill_common.contracts.contract import WorkerId
from tidemill_scheduler.launchers.processes import ProcessId
from tidemill_scheduler.ports import WorkerSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One started Worker."""

    spec: WorkerSpec
    started_at: datetime
    process: ProcessId | None = None
    """None: it was about to be started."""
    is_draining: bool = False


class WorkerRecords:
    """Records in one directory, a file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, record: WorkerRecord) -> None:
        """Store it whole or not at all."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(record.spec.id)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({**asdict(record), "started_at": record.started_at.isoformat()}))
        scratch.replace(path)

    def remove(self, worker: WorkerId) -> None:
        """Forget it; one that is not there is success."""
        self._path(worker).unlink(missing_ok=True)

    def all(self) -> Iterator[WorkerRecord]:
        """Every record that can be read; the others are reported and left."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield _parse(json.loads(path.read_bytes()))
            except (ValueError, KeyError, TypeError) as error:
                log.error("worker record cannot be read", path=str(path), error=str(error))
            except FileNotFoundError:
                continue

    def _path(self, worker: WorkerId) -> Path:
        return self._directory / f"{worker}.json"


def _parse(fields: dict[str, object]) -> WorkerRecord:
    spec, process, started_at = fields["spec"], fields["process"], fields["started_at"]
    if not isinstance(spec, dict) or not isinstance(started_at, str):
        raise TypeError("spec or started_at is missing")
    return WorkerRecord(
        spec=WorkerSpec(**spec),
        started_at=datetime.fromisoformat(started_at),
        process=ProcessId(**process) if isinstance(process, dict) else None,
        is_draining=bool(fields["is_draining"]),
    )
