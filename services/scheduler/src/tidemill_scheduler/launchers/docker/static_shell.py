"""The static busybox of this machine, as a directory that can be mounted into images without `/bin/sh`."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from tidemill_common.errors import InvalidInputError
from tidemill_scheduler.launchers.shells import PROGRAM

_HEADER: Final = struct.Struct("<16sHHIQQQIHHH")
"""Of a 64-bit ELF file, up to the number of its program headers."""
_INTERPRETER: Final = 3
"""The program header of a program that needs a loader, and with it libraries."""
_LIST_SECONDS: Final = 10


class StaticShell:
    """Makes the directory when it is first needed.

    Args:
        program: A static busybox; it need not be there until it is needed.
        root: Below which to make it; on the Docker host as well.
    """

    def __init__(self, program: Path, root: Path) -> None:
        self._program = program
        self._root = root
        self._made: Path | None = None
        self._making = asyncio.Lock()

    async def directory(self) -> Path:
        """The busybox and links to it by the names of its applets.

        Raises:
            InvalidInputError: There is no static busybox; says what to do.
        """
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(_make, self._program, self._root)
            return self._made


def why_not_static(program: Path) -> str | None:
    """None: it runs wherever this processor does, without a library."""
    try:
        found = program.read_bytes()
    except OSError as error:
        return f"{program}: {error.strerror}"
    if found[:6] != b"\x7fELF\x02\x01" or len(found) < _HEADER.size:
        return f"{program} is no program for 64-bit Linux"
    *_, start, _sections, _flags, _own, size, count = _HEADER.unpack_from(found)
    kinds = [int.from_bytes(found[start + n * size :][:4], "little") for n in range(count)]
    return f"{program} is not linked statically" if _INTERPRETER in kinds else None


def _make(program: Path, root: Path) -> Path:
    """Named by what is in it, and never changed: Workers of an earlier scheduler may have it mounted."""
    if (reason := why_not_static(program)) is not None:
        raise InvalidInputError(
            f"the image has no /bin/sh, and there is no shell to bring along: {reason}; install a static busybox "
            "(busybox-static) or name one in TIDEMILL_SCHEDULER_DOCKER__SHELL"
        )
    found = program.read_bytes()
    directory = root / hashlib.sha256(found).hexdigest()[:16]
    if not directory.exists():
        _fill(new := directory.with_suffix(".new"), found)
        new.rename(directory)
    return directory


def _fill(directory: Path, busybox: bytes) -> None:
    shutil.rmtree(directory, ignore_errors=True)  # one that was not finished
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    program = directory / PROGRAM
    program.write_bytes(busybox)
    program.chmod(0o755)
    for applet in _applets(program):
        (directory / applet).symlink_to(PROGRAM)


def _applets(busybox: Path) -> list[str]:
    try:
        said = subprocess.run(
            [str(busybox), "--list"], capture_output=True, text=True, timeout=_LIST_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidInputError(f"the busybox to bring along does not run: {error}") from error
    return [name for name in said.stdout.split() if name != PROGRAM and "/" not in name]
