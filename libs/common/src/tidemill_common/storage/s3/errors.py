"""From what S3 and its libraries say to our errors: one table by error code, one by class.

Verdicts: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and MinIO's own codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import obstore.exceptions

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    UnavailableError,
    UnsupportedError,
)

ErrorClass = type[TidemillError]

_CODES: Final[dict[ErrorClass, str]] = {
    NotFoundError: "NoSuchBucket NoSuchKey NoSuchVersion NoSuchUpload NoSuchTagSet NotFound",
    AccessDeniedError: (
        "AccessDenied Forbidden InvalidAccessKeyId SignatureDoesNotMatch AllAccessDisabled AccountProblem ExpiredToken "
        "InvalidToken TokenRefreshRequired RequestTimeTooSkewed QuotaExceeded XMinioStorageFull "
        "XMinioAdminBucketQuotaExceeded TooManyBuckets"
    ),
    ConflictError: "BucketAlreadyExists BucketAlreadyOwnedByYou BucketNotEmpty PreconditionFailed InvalidObjectState",
    InvalidInputError: (
        "EntityTooLarge EntityTooSmall InvalidBucketName InvalidArgument InvalidRequest InvalidRange InvalidTag "
        "KeyTooLongError MalformedXML MetadataTooLarge InvalidURI InvalidPart InvalidPartOrder PermanentRedirect "
        "AuthorizationHeaderMalformed IllegalLocationConstraintException"
    ),
    UnsupportedError: "NotImplemented MethodNotAllowed",
    ThrottledError: (
        "SlowDown SlowDownRead SlowDownWrite TooManyRequests RequestLimitExceeded Throttling ThrottlingException "
        "XMinioRequestsMaxReached"
    ),
    UnavailableError: (
        "InternalError ServiceUnavailable RequestTimeout OperationAborted XMinioServerNotInitialized BadDigest "
        "IncompleteBody XAmzContentChecksumMismatch XAmzContentSHA256Mismatch Busy ConditionalRequestConflict"
    ),
}
_BY_CODE: Final = {code: error for error, codes in _CODES.items() for code in codes.split()}
_BY_STATUS: Final[dict[int, ErrorClass]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    408: UnavailableError,
    409: ConflictError,
    412: ConflictError,
    429: ThrottledError,
    501: UnsupportedError,
}
OBSTORE_ERRORS: Final[dict[type[BaseException], ErrorClass]] = {
    FileNotFoundError: NotFoundError,
    ValueError: InvalidInputError,
    obstore.exceptions.AlreadyExistsError: ConflictError,
    obstore.exceptions.PreconditionError: ConflictError,
    obstore.exceptions.NotModifiedError: ConflictError,
    obstore.exceptions.PermissionDeniedError: AccessDeniedError,
    obstore.exceptions.UnauthenticatedError: AccessDeniedError,
    obstore.exceptions.InvalidPathError: InvalidInputError,
    obstore.exceptions.UnknownConfigurationKeyError: InvalidInputError,
    obstore.exceptions.NotSupportedError: UnsupportedError,
    obstore.exceptions.JoinError: UnavailableError,
    obstore.exceptions.GenericError: UnavailableError,
    obstore.exceptions.BaseError: UnavailableError,
}
"""What a class means when the text names no error code of S3."""

_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})|\((\d{3})\)")
_MAX_DETAIL: Final = 300


def error_class(code: str | None, status: int | None) -> ErrorClass | None:
    """What an answer of the store means; None: it says neither."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status is None or status < 300:
        return None
    return _BY_STATUS.get(status, UnavailableError if status >= 500 else InvalidInputError)


def from_obstore(error: BaseException, what: str) -> TidemillError:
    """Our error for one of obstore's.

    Args:
        what: What was tried, on what.
    """
    text = str(error).partition("\n\nDebug source")[0]
    code, status = _CODE.search(text), _STATUS.search(text)
    known = error_class(code and code[1], int(status[1] or status[2]) if status else None)
    usual = next(kind for cls, kind in OBSTORE_ERRORS.items() if isinstance(error, cls))
    return (known or usual)(f"{what}: {code[1] if code else _detail(text)}")


@contextmanager
def obstore_errors(what: str) -> Iterator[None]:
    """Translate obstore's errors."""
    try:
        yield
    except tuple(OBSTORE_ERRORS) as error:
        raise from_obstore(error, what) from error


def _detail(text: str) -> str:
    return " ".join(text.split())[:_MAX_DETAIL]
