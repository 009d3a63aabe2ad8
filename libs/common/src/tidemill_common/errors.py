"""The error taxonomy: a failure says whether trying again can help.

Adapters translate their library's errors into these at their edge, with the original as `__cause__`;
`tidemill_common.verdicts.judge` turns them into what happens to a Message.
"""

from __future__ import annotations

from datetime import timedelta


class TidemillError(Exception):
    """Everything tidemill raises on purpose."""


class TransientError(TidemillError):
    """Trying again later may succeed.

    Args:
        message: What was tried, on what, and what came back.
        retry_after: How long to wait first; None: the caller's own backoff.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(TransientError):
    """The other side does not answer, or answers that it cannot now."""


class ThrottledError(TransientError):
    """The other side is there, but full."""


class OutcomeUnknownError(TransientError):
    """It may or may not have happened: repeat with the same id."""


class LeaseLostError(TransientError):
    """The Lease ended before it was answered; another Worker has the Invocation, or will."""


class PermanentError(TidemillError):
    """Trying again cannot succeed."""


class InvalidMessageError(PermanentError):
    """A body breaks its contract; says which, and where."""


class InvalidInputError(PermanentError):
    """What a user gave is wrong; says what and where."""


class AccessDeniedError(PermanentError):
    """The other side knows us and refuses."""


class NotFoundError(PermanentError):
    """What was named is not there."""


class ConflictError(PermanentError):
    """It is there already, or has changed since it was read."""


class UnsupportedError(PermanentError):
    """This adapter cannot do what the configuration asks for."""
