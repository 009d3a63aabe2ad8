"""From what the server or nats-py reports to our errors: the one table at this adapter's edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from nats import errors as library

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    InvalidMessageError,
    NotFoundError,
    OutcomeUnknownError,
    ThrottledError,
    TidemillError,
    UnavailableError,
    UnsupportedError,
)


class NobodyListensError(UnavailableError):
    """No Stream or Consumer answers on a subject: there is none, or JetStream is still starting."""


FULL_RETRY_AFTER: Final = timedelta(seconds=1)
"""How long whoever finds a Stream full should wait."""


def _throttled(message: str) -> TidemillError:
    return ThrottledError(message, retry_after=FULL_RETRY_AFTER)


NO_SUCH_STREAM: Final = 10059
WRONG_LAST_SEQUENCE: Final = 10071

_BY_API_CODE: Final[Mapping[int, Callable[[str], TidemillError]]] = {
    10002: _throttled,  # resource limits exceeded for account
    10008: UnavailableError,  # JetStream system temporarily unavailable
    10009: UnavailableError,  # JetStream cluster can not handle request (no leader)
    10013: ConflictError,  # consumer name already in use
    10014: NotFoundError,  # consumer not found
    10023: _throttled,  # insufficient resources
    10026: _throttled,  # maximum consumers limit reached
    10028: _throttled,  # insufficient memory resources available
    10037: NotFoundError,  # no message found
    10039: UnsupportedError,  # JetStream not enabled for account
    10043: NotFoundError,  # sequence not found
    10047: _throttled,  # insufficient storage resources available
    10052: UnsupportedError,  # invalid stream configuration
    10053: UnsupportedError,  # stream limits exceeded
    10054: InvalidMessageError,  # message size exceeds maximum allowed
    10058: ConflictError,  # stream name already in use with a different configuration
    NO_SUCH_STREAM: NotFoundError,
    10065: ConflictError,  # subjects overlap with an existing stream
    10069: UnsupportedError,  # stream update refused
    WRONG_LAST_SEQUENCE: ConflictError,
    10074: UnsupportedError,  # replicas > 1 not supported in non-clustered mode
    10076: UnavailableError,  # JetStream not enabled (the server is starting)
    10077: _throttled,  # maximum messages or bytes exceeded (`discard new`)
    10097: InvalidMessageError,  # header size exceeds maximum allowed
    10109: UnsupportedError,  # invalid operation on sealed stream
    10118: UnavailableError,  # stream is offline
    10148: ConflictError,  # consumer already exists
    10163: UnavailableError,  # expected last sequence per subject temporarily unavailable
    10164: ConflictError,  # wrong last sequence
    10167: _throttled,  # too many requests
}
_BY_STATUS: Final[Mapping[int, Callable[[str], TidemillError]]] = {
    400: UnsupportedError,
    403: AccessDeniedError,
    404: NotFoundError,
    429: _throttled,
}

_BY_LIBRARY_ERROR: Final[Mapping[type[BaseException], Callable[[str], TidemillError]]] = {
    library.Error: UnavailableError,
    library.TimeoutError: UnavailableError,
    library.NoRespondersError: UnavailableError,
    library.StaleConnectionError: OutcomeUnknownError,
    library.OutboundBufferLimitError: UnavailableError,
    library.UnexpectedEOF: OutcomeUnknownError,
    library.FlushTimeoutError: OutcomeUnknownError,
    library.ConnectionClosedError: UnavailableError,
    library.SecureConnRequiredError: UnsupportedError,
    library.SecureConnWantedError: UnsupportedError,
    library.SecureConnFailedError: UnavailableError,
    library.BadSubscriptionError: UnavailableError,
    library.BadSubjectError: InvalidInputError,
    library.BadHeaderError: InvalidInputError,
    library.SlowConsumerError: UnavailableError,
    library.BadTimeoutError: UnavailableError,
    library.AuthorizationError: AccessDeniedError,
    library.NoServersError: UnavailableError,
    library.JsonParseError: UnavailableError,
    library.MaxPayloadError: InvalidMessageError,
    library.DrainTimeoutError: UnavailableError,
    library.ConnectionDrainingError: UnavailableError,
    library.ConnectionReconnectingError: UnavailableError,
    library.InvalidUserCredentialsError: AccessDeniedError,
    library.InvalidCallbackTypeError: UnsupportedError,
    library.ProtocolError: OutcomeUnknownError,
    library.ServerNotInPoolError: UnavailableError,
    library.NotJSMessageError: InvalidMessageError,
    library.MsgAlreadyAckdError: ConflictError,
}


def api_fault(error: Mapping[str, Any], what: str) -> TidemillError:
    """The error for the `error` object of a JetStream answer."""
    code, status = int(error.get("err_code", 0)), int(error.get("code", 0))
    make = _BY_API_CODE.get(code) or _BY_STATUS.get(status) or UnavailableError
    return make(f"{what}: {error.get('description', 'no description')} (JetStream {code or status})")


def library_fault(error: BaseException, what: str) -> TidemillError:
    """The error for an exception of nats-py; its cause is the caller's `raise … from`."""
    for kind in type(error).__mro__:
        make = _BY_LIBRARY_ERROR.get(kind)
        if make is not None:
            return make(f"{what}: {error}")
    return UnavailableError(f"{what}: {type(error).__name__}: {error}")


def status_fault(status: str, description: str, what: str) -> TidemillError:
    """The error for an answer without a body: a status line of the server."""
    if status == "503":
        return NobodyListensError(f"{what}: nobody answers there (no such Stream or Consumer, or still starting)")
    return UnavailableError(f"{what}: {status} {description}")
