"""Two FIFOs through which a resident script is asked and answers, one line each.

We hold both ends of both: a script may open, close and open them again as it likes, and neither side ever waits in
`open`. So a script's end is no end of file here; it is seen by its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 256 * 1024
_MODE: Final = 0o666
"""User code may run as any user; the directory around it is not open to others."""


class Exchange:
    """Our side of the two FIFOs `requests` and `responses` of one script."""

    def __init__(self, directory: Path, hear: Callable[[bytes], None], *, line_limit_bytes: int) -> None:
        self.requests = directory / "requests"
        self.responses = directory / "responses"
        self._hear = hear
        self._line_limit = line_limit_bytes
        self._loop = asyncio.get_running_loop()
        self._heard = b""
        self._is_cut = False
        self._unsent = b""
        self._sent = 0
        self._out = _open_fifo(self.requests)
        self._in = _open_fifo(self.responses)
        self._loop.add_reader(self._in, self._read)

    def send(self, line: bytes) -> None:
        """Pass on a line, as fast as the script reads it."""
        self._sent = len(line)
        self._unsent = line
        self._write()

    @property
    def is_untouched(self) -> bool:
        """Whether the script has read nothing of the last line."""
        waiting: int = struct.unpack("i", fcntl.ioctl(self._out, termios.FIONREAD, b"\0" * 4))[0]
        return self._sent > 0 and waiting + len(self._unsent) >= self._sent

    def close(self) -> None:
        """The script is gone."""
        self._loop.remove_reader(self._in)
        self._loop.remove_writer(self._out)
        os.close(self._in)
        os.close(self._out)

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[os.write(self._out, self._unsent) :]
        if self._unsent:
            self._loop.add_writer(self._out, self._write)
        else:
            self._loop.remove_writer(self._out)

    def _read(self) -> None:
        try:
            chunk = os.read(self._in, _READ_BYTES)
        except BlockingIOError:
            return
        *lines, self._heard = (self._heard + chunk).split(b"\n")
        for line in lines:
            if not self._is_cut:
                self._hear(line)
            self._is_cut = False
        if len(self._heard) > self._line_limit:
            if not self._is_cut:
                self._hear(self._heard)  # no JSON, being cut: whoever hears it says so
            self._heard, self._is_cut = b"", True


def _open_fifo(path: Path) -> int:
    os.mkfifo(path)
    path.chmod(_MODE)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
