"""The lines between a supervisor and the runner in its user container.

Both ends are FIFOs that the supervisor makes in `<worker directory>/runner/`. A line is a word, the number of a run,
and what belongs to it; workspaces are told by their name in the worker directory. User code can write to these FIFOs
as well as the runner does, so an answer that makes no sense is passed over and nothing here trusts its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FOLDER: Final = "runner"
"""Within the worker directory."""
COMMANDS: Final = "commands"
"""The FIFO that the supervisor writes."""
ANSWERS: Final = "answers"
"""The FIFO that the runner writes."""
ENDED: Final = "ended"
"""A file in the worker directory: the supervisor is gone, and a runner that was not there yet need not wait."""

_LINE_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NOBODY: Final = "-"
_SIGNALS: Final = frozenset({"HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"})


@dataclass(frozen=True, slots=True)
class Ready:
    """The runner is there; the first answer."""

    version: int
    memory_kills: int


@dataclass(frozen=True, slots=True)
class Started:
    """The script is about to run."""

    run: int
    pid: int
    """In the container."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The script could not be started."""

    run: int
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The script's first process has ended. The first answer of a run counts."""

    run: int
    exit_code: int
    """As a shell shows it: 128 + n for signal n."""
    memory_kills: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing of the script runs any more, and its outputs can be read."""

    run: int
    memory_kills: int


@dataclass(frozen=True, slots=True)
class Wiped:
    """The runner has removed of a workspace what it could."""

    run: int


Answer = Ready | Started | Failed | Ended | Cleared | Wiped


def run(number: int) -> bytes:
    """Run the script of the command file `<number>.sh`, its output going to the FIFO `<number>.out`."""
    return f"run {number}\n".encode()


def signal(number: int, name: str, pid: int, workspace: str) -> bytes:
    """Send a signal (`TERM`) to all of a script."""
    if name not in _SIGNALS:
        raise ValueError(f"signal {name}: the runner cannot send it")
    return f"signal {number} {name} {pid} {_checked(workspace)}\n".encode()


def check(number: int) -> bytes:
    """Answer with the script's end if whoever should have told it was killed."""
    return f"check {number}\n".encode()


def clear(number: int, pid: int | None, workspace: str) -> bytes:
    """Kill all that a script left running and open its outputs; the last command of a run.

    Args:
        pid: None: it never started.
    """
    return f"clear {number} {_NOBODY if pid is None else pid} {_checked(workspace)}\n".encode()


def wipe(number: int, workspace: str) -> bytes:
    """Remove a workspace."""
    return f"wipe {number} {_checked(workspace)}\n".encode()


class Parser:
    """From chunks to answers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Answer]:
        """The answers that are complete with this chunk."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:_LINE_BYTES]
        for line in lines:
            if (answer := _answer(line.decode(errors="replace"))) is not None:
                yield answer


def _answer(line: str) -> Answer | None:
    """None: it makes no sense."""
    word, _, rest = line.partition(" ")
    if word == "failed":
        number, _, message = rest.partition(" ")
        return Failed(int(number), message) if _is_number(number) else None
    numbers = rest.split(" ")
    if not all(_is_number(number) for number in numbers):
        return None
    match word, [int(number) for number in numbers]:
        case "ready", [version, kills]:
            return Ready(version, kills)
        case "started", [run_number, pid]:
            return Started(run_number, pid)
        case "exit", [run_number, code, kills]:
            return Ended(run_number, code, kills)
        case "cleared", [run_number, kills]:
            return Cleared(run_number, kills)
        case "wiped", [run_number]:
            return Wiped(run_number)
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _checked(workspace: str) -> str:
    if not _NAME.fullmatch(workspace):
        raise ValueError(f"workspace {workspace!r}: not a plain name")
    return workspace
