"""botocore's errors as ours; apart, because importing botocore costs a quarter of a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import botocore.exceptions as boto
from botocore.parsers import ResponseParserError

from tidemill_common.errors import AccessDeniedError, InvalidInputError, TidemillError, UnavailableError
from tidemill_common.storage.s3.errors import ErrorClass, error_class

BOTOCORE_ERRORS: Final[dict[type[BaseException], ErrorClass]] = {
    boto.ClientError: UnavailableError,
    boto.HTTPClientError: UnavailableError,
    boto.ConnectionError: UnavailableError,
    boto.IncompleteReadError: UnavailableError,
    boto.ChecksumError: UnavailableError,
    boto.FlexibleChecksumError: UnavailableError,
    ResponseParserError: UnavailableError,
    boto.NoCredentialsError: AccessDeniedError,
    boto.PartialCredentialsError: AccessDeniedError,
    boto.CredentialRetrievalError: AccessDeniedError,
    boto.BotoCoreError: InvalidInputError,
    aiohttp.ClientError: UnavailableError,
    TimeoutError: UnavailableError,
    OSError: UnavailableError,
}
"""In this order, the first that fits; what remains of BotoCoreError is a wrong parameter or setting."""


def from_botocore(error: BaseException, what: str) -> TidemillError:
    """Our error for one of botocore's.

    Args:
        what: What was tried, on what.
    """
    if isinstance(error, boto.ClientError):
        answer: dict[str, Any] = error.response
        code = answer.get("Error", {}).get("Code", "")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        kind = error_class(code, status) or error_class(None, int(code) if code.isdigit() else None)
        return (kind or UnavailableError)(f"{what}: {code or status}")
    kind = next(ours for cls, ours in BOTOCORE_ERRORS.items() if isinstance(error, cls))
    return kind(f"{what}: {' '.join(str(error).split()) or type(error).__name__}")


@contextmanager
def botocore_errors(what: str) -> Iterator[None]:
    """Translate botocore's errors."""
    try:
        yield
    except tuple(BOTOCORE_ERRORS) as error:
        raise from_botocore(error, what) from error
