"""Instances as processes: each in a session and a workspace of its own, with a record that outlives the scheduler.

A record is written before its process is started, and once more with it. What a scheduler that died in between left is
found by the mark in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.errors import UnavailableError
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.launchers.processes import MARK, ProcessId, kill_leftovers, signal_process, wait_for_exit

log = structlog.get_logger()
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND: Final = (sys.executable, "-m", "tidemill_scheduler.exposing.launch")
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "PYTHONPATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One started process."""

    id: str
    service: ServiceName
    version: str
    """Of the exposure that it was started for."""
    port: int
    process: ProcessId | None = None
    """None: it was about to be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where instances have their files, and what they may take."""

    records: Path
    workspaces: Path
    logs: Path
    secrets: Path
    enforce_memory: bool = False

    def log_file(self, service: str) -> Path:
        """What all instances of a Service wrote."""
        return self.logs / f"{service}.log"


class Instances:
    """Starts, ends and remembers them. Methods but `end` are quick and block."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def start(self, exposure: Exposure, *, memory_bytes: int) -> Instance:
        """A new process of this exposure.

        Raises:
            UnavailableError: This machine cannot start it now.
        """
        name = f"exposed-{exposure.name}-{secrets.token_hex(4)}"
        instance = Instance(id=name, service=exposure.name, version=exposure.version, port=exposure.port)
        try:
            self._write(instance)
            spec = self._prepare(instance, exposure, memory_bytes)
            started = replace(instance, process=ProcessId.of(self._spawn(instance, spec)))
            self._write(started)
        except OSError as error:
            self.clean_up(instance)
            raise UnavailableError(f"start {exposure.name}: {error}") from error
        return started

    async def end(self, instance: Instance, *, grace: float) -> None:
        """SIGTERM, and after `grace` seconds SIGKILL; with everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = instance.process.open() if instance.process else -1
            if descriptor >= 0:
                await _terminate(descriptor, grace)
        await asyncio.to_thread(self.clean_up, instance)

    def clean_up(self, instance: Instance) -> None:
        """Leave nothing of it but its log."""
        kill_leftovers(WorkerId(instance.id), instance.process.pid if instance.process else None)
        shutil.rmtree(self.places.workspaces / instance.id, ignore_errors=True)
        self._record(instance.id).unlink(missing_ok=True)

    def recorded(self) -> Iterator[Instance]:
        """Every one that was started and not cleaned up."""
        for path in sorted(self.places.records.glob("*.json")):
            try:
                yield _parse(json.loads(path.read_bytes()))
            except FileNotFoundError:  # it was cleaned up meanwhile
                continue
            except (ValueError, KeyError, TypeError) as error:
                log.error("record of an exposed service cannot be read", path=str(path), error=str(error))

    def _prepare(self, instance: Instance, exposure: Exposure, memory_bytes: int) -> Path:
        root = self.places.workspaces / instance.id
        (root / "tmp").mkdir(mode=0o700, parents=True)
        root.chmod(0o700)
        self.places.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        script = root / "script.sh"
        script.write_text(exposure.service.script)
        script.chmod(0o700)
        spec = root / "launch.json"
        spec.touch(mode=0o600)
        spec.write_text(json.dumps(self._spec(instance, exposure, script, memory_bytes)))
        return spec

    def _spec(self, instance: Instance, exposure: Exposure, script: Path, memory_bytes: int) -> dict[str, Any]:
        return {
            "arguments": interpreter_of(exposure.service.script, script),
            "environment": variables_of(exposure, script.parent),
            "fixed": fixed_variables(exposure) | {MARK: instance.id},
            "directory": str(script.parent),
            "secrets_file": str(self.places.secrets / f"{exposure.name}.json"),
            "log_file": str(self.places.log_file(exposure.name)),
            "memory_bytes": memory_bytes if self.places.enforce_memory else None,
        }

    def _spawn(self, instance: Instance, spec: Path) -> int:
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return os.posix_spawnp(
            _COMMAND[0],
            [*_COMMAND, str(spec)],
            {**own, MARK: instance.id},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(spec.with_name("launch.err")), os.O_WRONLY | os.O_CREAT, 0o600),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGTERM, signal.SIGINT],
        )

    def _write(self, instance: Instance) -> None:
        self.places.records.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._record(instance.id)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(asdict(instance)))
        scratch.replace(path)

    def _record(self, name: str) -> Path:
        return self.places.records / f"{name}.json"


def interpreter_of(script: str, path: Path) -> list[str]:
    """How to run a script: by its `#!` line, else by `/bin/sh`; also where files cannot be executed."""
    first = script.partition("\n")[0]
    words = first[2:].strip().split(None, 1) if first.startswith("#!") else []
    return [*(word.strip() for word in words), str(path)] if words else ["/bin/sh", str(path)]


def variables_of(exposure: Exposure, home: Path) -> dict[str, str]:
    """What the user may set otherwise."""
    defaults = {"PATH": _PATH, "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(home / "tmp")}
    return {**defaults, "PORT": str(exposure.port), **exposure.service.variables}


def fixed_variables(exposure: Exposure) -> dict[str, str]:
    """What OSCAR promises (contract 6.1 and 8)."""
    return {"OSCAR_SERVICE_NAME": exposure.name, "OSCAR_SERVICE_BASE_PATH": exposure.base_path}


async def _terminate(descriptor: int, grace: float) -> None:
    try:
        signal_process(descriptor, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await wait_for_exit(descriptor)
        signal_process(descriptor, signal.SIGKILL)
        await wait_for_exit(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - WNOHANG: it does not wait
    finally:
        os.close(descriptor)


def _parse(fields: Mapping[str, Any]) -> Instance:
    process = fields["process"]
    return Instance(**{**fields, "process": ProcessId(**process) if process is not None else None})
