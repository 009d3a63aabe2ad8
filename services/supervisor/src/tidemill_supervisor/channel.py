"""Our side of the FIFOs to the runner in the user container.

We make them and hold the commands' both ends, so that neither side waits in `open`; the answers' other end is the
runner's alone, so its death is their end of file. User code may be root in its container, which shares this directory:
files are made anew and below an open directory, so no link that it plants leads us elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidemill_common.runner import ANSWERS, COMMANDS, FOLDER, Answer, Parser

_READ_BYTES: Final = 64 * 1024
_PIPE_BYTES: Final = 256 * 1024
_FILE_MODE: Final = 0o644
_FIFO_MODE: Final = 0o666
"""User code may run as any user; the directory around it is not open to others."""
_F_SETPIPE_SZ: Final = 1031


class Channel:
    """The two FIFOs, and the directory of what belongs to single runs.

    Args:
        answer: Takes each answer.
        lost: Called once, when the runner has died.
    """

    def __init__(self, directory: Path, *, answer: Callable[[Answer], None], lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._lost = lost
        self._parser = Parser()
        made = directory / f".{FOLDER}"
        made.mkdir(mode=0o755)
        made.chmod(0o755)
        self._folder = os.open(made, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        for name in (COMMANDS, ANSWERS):
            self._make_fifo(name)
        self._commands = self._open(COMMANDS, os.O_RDWR)
        self._answers: int | None = self._open(ANSWERS, os.O_RDONLY)
        self._loop.add_reader(self._answers, self._read)
        made.rename(directory / FOLDER)  # the runner waits for this name, and never finds it half made

    @property
    def is_open(self) -> bool:
        """Whether the runner may be there, now or later."""
        return self._answers is not None

    def send(self, command: bytes) -> None:
        """Tell the runner; when it has died, nothing happens."""
        if self.is_open:
            os.write(self._commands, command)  # far below the FIFO's size: few commands wait, each a short line

    def make_output(self, number: int) -> int:
        """Make the FIFO that a run writes to; returns our end, which does not block."""
        self._make_fifo(f"{number}.out")
        descriptor = self._open(f"{number}.out", os.O_RDONLY)
        with contextlib.suppress(OSError):  # the user's share of all pipes is used up
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
        return descriptor

    def write_script(self, number: int, content: bytes) -> None:
        """Write the command file of a run."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(f"{number}.sh", flags, _FILE_MODE, dir_fd=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), _FILE_MODE)

    def remove(self, number: int) -> None:
        """Remove the files of a run."""
        for name in (f"{number}.out", f"{number}.sh"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)

    def close(self) -> None:
        """Let the runner end. Names first: whoever still opens one finds our end, and does not wait for ever."""
        for name in (COMMANDS, ANSWERS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        self._close_answers()
        os.close(self._commands)
        os.close(self._folder)

    def _read(self) -> None:
        assert self._answers is not None
        try:
            chunk = os.read(self._answers, _READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._close_answers()
            self._lost()
            return
        for answer in self._parser.feed(chunk):
            self._answer(answer)

    def _close_answers(self) -> None:
        if self._answers is not None:
            self._loop.remove_reader(self._answers)
            os.close(self._answers)
            self._answers = None

    def _make_fifo(self, name: str) -> None:
        os.mkfifo(name, dir_fd=self._folder)
        os.chmod(name, _FIFO_MODE, dir_fd=self._folder)

    def _open(self, name: str, access: int) -> int:
        return os.open(name, access | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
