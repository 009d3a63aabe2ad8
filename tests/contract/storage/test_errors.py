"""No library's error leaves its adapter: every class and code has one of ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import aiohttp
import botocore.exceptions
import obstore.exceptions
import pytest

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    ThrottledError,
    TidemillError,
    TransientError,
    UnavailableError,
    UnsupportedError,
)
from tidemill_common.storage.local import from_os
from tidemill_common.storage.s3.botocore_errors import BOTOCORE_ERRORS, botocore_errors, from_botocore
from tidemill_common.storage.s3.errors import OBSTORE_ERRORS, error_class, from_obstore, obstore_errors


def errors_in(module: object) -> Iterator[type[Exception]]:
    """The error classes that a module defines or shows."""
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Exception) and not issubclass(found, Warning):
            yield found


@pytest.mark.parametrize(
    "cls",
    [cls for cls in errors_in(obstore.exceptions) if cls.__name__ != "NotFoundError"],
    ids=lambda cls: cls.__name__,
)
def test_every_error_of_obstore_has_its_own_line(cls: type[Exception]) -> None:
    # its NotFoundError is deprecated and never raised: FileNotFoundError is
    assert cls in OBSTORE_ERRORS
    assert isinstance(from_obstore(cls("text"), "get a/b"), OBSTORE_ERRORS[cls])


@pytest.mark.parametrize("cls", list(errors_in(botocore.exceptions)), ids=lambda cls: cls.__name__)
def test_every_error_of_botocore_is_covered(cls: type[Exception]) -> None:
    if cls.__name__ in ("UndefinedModelAttributeError", "MissingServiceIdError"):
        pytest.skip("about botocore's own data files")

    assert issubclass(cls, tuple(BOTOCORE_ERRORS))


@pytest.mark.parametrize(
    "cls",
    [
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ReadTimeoutError,
        botocore.exceptions.ConnectionClosedError,
        botocore.exceptions.ResponseStreamingError,
        aiohttp.ClientPayloadError,
        TimeoutError,
    ],
)
def test_trouble_on_the_way_may_pass(cls: type[Exception]) -> None:
    error = an_error(cls)

    assert isinstance(from_botocore(error, "get a/b"), TransientError)


def an_error(cls: type[Exception]) -> Exception:
    """An error of a class."""
    make: Any = cls
    made: Exception = (
        make(endpoint_url="u", error="e") if issubclass(cls, botocore.exceptions.BotoCoreError) else make("e")
    )
    return made


def test_a_wrong_parameter_cannot_succeed_later() -> None:
    assert isinstance(from_botocore(botocore.exceptions.ParamValidationError(report="r"), "get a/b"), InvalidInputError)


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("NoSuchKey", 404, NotFoundError),
        ("NoSuchBucket", 404, NotFoundError),
        ("AccessDenied", 403, AccessDeniedError),
        ("SignatureDoesNotMatch", 403, AccessDeniedError),
        ("QuotaExceeded", 409, AccessDeniedError),
        ("XMinioStorageFull", 507, AccessDeniedError),
        ("EntityTooLarge", 400, InvalidInputError),
        ("InvalidObjectState", 403, ConflictError),
        ("PreconditionFailed", 412, ConflictError),
        ("NotImplemented", 501, UnsupportedError),
        ("SlowDown", 503, ThrottledError),
        ("InternalError", 500, UnavailableError),
        ("OperationAborted", 409, UnavailableError),
        ("RequestTimeout", 400, UnavailableError),
        ("XMinioServerNotInitialized", 503, UnavailableError),
        ("BadDigest", 400, UnavailableError),
        ("SomethingNew", 404, NotFoundError),
        ("SomethingNew", 418, InvalidInputError),
        ("SomethingNew", 429, ThrottledError),
        (None, 502, UnavailableError),
        (None, 403, AccessDeniedError),
    ],
)
def test_what_the_store_says_counts_more_than_the_class(
    code: str | None, status: int, ours: type[TidemillError]
) -> None:
    shown = f"status code: {status} X: " + (f"<Error><Code>{code}</Code></Error>" if code else "")
    answer = {"Error": {"Code": code or str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}

    assert type(from_obstore(obstore.exceptions.GenericError(shown), "get a/b")) is ours
    assert type(from_botocore(botocore.exceptions.ClientError(answer, "GetObject"), "get a/b")) is ours


def test_an_answer_that_is_no_error_says_nothing() -> None:
    assert error_class(None, 200) is None
    assert error_class("New", None) is None


def test_errors_say_what_was_tried_and_keep_their_cause() -> None:
    with pytest.raises(NotFoundError, match=r"^get data/a: NoSuchKey$") as caught, obstore_errors("get data/a"):
        raise FileNotFoundError("… status code: 404: <Code>NoSuchKey</Code>\n\nDebug source:\nsecret")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(UnavailableError, match=r"^put data/a: "), botocore_errors("put data/a"):
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="http://x")


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (FileNotFoundError(2, "gone"), NotFoundError),
        (PermissionError(13, "no"), AccessDeniedError),
        (IsADirectoryError(21, "dir"), ConflictError),
        (OSError(36, "File name too long"), InvalidInputError),
        (OSError(28, "No space left on device"), UnavailableError),
        (OSError(116, "Stale file handle"), UnavailableError),
    ],
)
def test_the_systems_errors_become_ours(error: OSError, ours: type[TidemillError]) -> None:
    assert type(from_os(error, "put a")) is ours


def test_the_table_has_only_errors_with_a_verdict() -> None:
    for ours in {*OBSTORE_ERRORS.values(), *BOTOCORE_ERRORS.values()}:
        assert issubclass(ours, PermanentError | TransientError)
