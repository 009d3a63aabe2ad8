"""Runs one instance of an exposed Service as a process: `python -m tidemill_scheduler.exposing.launch FILE`.

Beside the scheduler and not in it: it alone reads the Service's secrets, and it goes on when the scheduler ends. It
puts a time before each line that the user's code writes, keeps the file small, passes SIGTERM on, and ends with the
code's own exit code. Only the standard library, since one of these runs as long as each Service: 10 MB, not 40.

FILE is JSON: {"arguments", "environment", "directory", "secrets_file", "log_file", "memory_bytes"?}.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

MAX_LOG_BYTES: Final = 4 * 1024**2
"""A larger file becomes `<name>.1`, in place of the one before."""
MAX_LINE_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 64 * 1024
_SIGNALLED: Final = 128


class LineLog:
    """A file of lines with times."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Take what was written; a line without its end waits for it."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        stamp = _now()
        for line in lines:
            self._file.write(stamp + b" " + line[:MAX_LINE_BYTES].rstrip(b"\r") + b"\n")
        self._file.flush()
        if self._file.tell() > MAX_LOG_BYTES:
            self._turn()

    def close(self) -> None:
        """Write what is left."""
        if self._rest:
            self.write(b"\n")
        self._file.close()

    def _turn(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
        self._file = self._path.open("ab")


def main(file: Path) -> int:
    """Run it to its end; the exit code is the user's, or 128 and the signal's number."""
    spec: dict[str, Any] = json.loads(file.read_bytes())
    log = LineLog(Path(spec["log_file"]))
    try:
        return _run(spec, log)
    except OSError as error:
        log.write(f"cannot start {spec['arguments'][0]}: {error}\n".encode())
        return 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        log.close()


def _run(spec: dict[str, Any], log: LineLog) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    process = subprocess.Popen(
        spec["arguments"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(spec),
        cwd=spec["directory"],
        process_group=0,  # signals reach all of it, and not us
    )
    signal.signal(signal.SIGTERM, lambda *_: _pass_on(process.pid))
    if (limit := spec.get("memory_bytes")) is not None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    _copy_output(process, log)
    code = process.wait()
    return code if code >= 0 else _SIGNALLED - code


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    """The user's secrets win over the variables, as for Workers; what OSCAR fixes wins over both."""
    path = Path(spec["secrets_file"])
    record = json.loads(path.read_bytes()) if path.exists() else {}
    secrets: dict[str, str] = record.get("environment", {})
    fixed: dict[str, str] = spec["fixed"] | {"OSCAR_SERVICE_TOKEN": secrets.get("OSCAR_SERVICE_TOKEN", "")}
    found: dict[str, str] = {**spec["environment"], **secrets, **fixed}
    return {name: value for name, value in found.items() if name and "=" not in name and "\0" not in name + value}


def _pass_on(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)


def _copy_output(process: subprocess.Popen[bytes], log: LineLog) -> None:
    """Until the first process has ended: what it left behind may hold the pipe open for ever."""
    assert process.stdout is not None
    output, ended = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(output, False)
    waiting = [output, ended]
    while ended in waiting:
        ready, _, _ = select.select(waiting, [], [])
        if output in ready and not _copy(output, log):
            waiting.remove(output)
        if ended in ready:
            waiting.remove(ended)
    while _copy(output, log):
        pass
    os.close(ended)


def _copy(output: int, log: LineLog) -> bool:
    """False: there is nothing now, or there will be nothing more."""
    try:
        chunk = os.read(output, _READ_BYTES)
    except BlockingIOError:
        return False
    log.write(chunk)
    return bool(chunk)


def _now() -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%06dZ" % (nanoseconds // 1000)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
