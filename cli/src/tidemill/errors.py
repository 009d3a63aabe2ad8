"""What a command says and how it exits when it cannot do what it was asked to."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    FAILED = 1
    """An Invocation failed, accounts do not balance, a check found something."""
    USAGE = 2
    """Wrong arguments, or a mistake in a file."""
    NOT_FOUND = 3
    CONNECTION = 4
    """The platform does not answer, or refuses the credentials."""


class CliError(Exception):
    """A message for the user, and the exit code. Shown without traceback."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code
