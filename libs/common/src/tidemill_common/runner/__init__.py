"""The runner: what stands in a Worker's user container and runs scripts there, and the language it is told in.

The image is the user's own and needs nothing but a POSIX `/bin/sh`; `loop.sh` says what it uses where it is there. The
launchers put `runner_command` into the container; the supervisor talks to it (docs/internals.md, "Workers in
containers").
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from tidemill_common.runner.protocol import (
    ANSWERS,
    COMMANDS,
    ENDED,
    FOLDER,
    Answer,
    Cleared,
    Ended,
    Failed,
    Parser,
    Ready,
    Started,
    Wiped,
    check,
    clear,
    run,
    signal,
    wipe,
)
from tidemill_common.runner.script import script_file

__all__ = [
    "ANSWERS",
    "COMMANDS",
    "ENDED",
    "FOLDER",
    "LOOP",
    "Answer",
    "Cleared",
    "Ended",
    "Failed",
    "Parser",
    "Ready",
    "Started",
    "Wiped",
    "check",
    "clear",
    "run",
    "runner_command",
    "script_file",
    "signal",
    "wipe",
]

LOOP: Final = (files(__name__) / "loop.sh").read_text(encoding="utf-8")
"""The program of the user container."""


def runner_command(directory: str, *, applets: str | None = None) -> list[str]:
    """What the user container runs, as process 1: command and arguments; its image's entry point is not used.

    Args:
        directory: The worker directory, `<TIDEMILL_SUPERVISOR_WORKSPACE_DIR>/<TIDEMILL_SUPERVISOR_WORKER_ID>`, under
            the path that the supervisor sees it at. It need not be there yet.
        applets: A directory of programs that was brought into an image without any, for what the image lacks.
    """
    return ["/bin/sh", "-c", LOOP, "tidemill-runner", directory, *([] if applets is None else [applets])]
