"""Every failure that nats-py or JetStream can report has an error of ours."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
from nats import errors as library

from tidemill_common.bus.nats import faults
from tidemill_common.errors import (
    ConflictError,
    InvalidMessageError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    UnavailableError,
    UnsupportedError,
)

LIBRARY_ERRORS = [kind for _, kind in inspect.getmembers(library, inspect.isclass) if issubclass(kind, library.Error)]


@pytest.mark.parametrize("kind", LIBRARY_ERRORS, ids=lambda kind: kind.__name__)
def test_each_error_of_the_library_is_in_the_table(kind: type[library.Error]) -> None:
    assert kind in faults._BY_LIBRARY_ERROR


def test_a_subclass_that_is_new_counts_as_its_base() -> None:
    class NewError(library.MaxPayloadError):
        pass

    assert isinstance(faults.library_fault(NewError(), "publish"), InvalidMessageError)


@pytest.mark.parametrize("code", sorted(faults._BY_API_CODE))
def test_each_code_of_the_table_makes_an_error_that_names_it(code: int) -> None:
    error = faults.api_fault({"code": 500, "err_code": code, "description": "why"}, "append")
    assert "why" in str(error)
    assert str(code) in str(error)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (10077, 503, ThrottledError),
        (10047, 500, ThrottledError),
        (10071, 400, ConflictError),
        (10059, 404, NotFoundError),
        (10043, 400, NotFoundError),
        (10052, 500, UnsupportedError),
        (10008, 503, UnavailableError),
        (0, 404, NotFoundError),
        (99999, 500, UnavailableError),
    ],
)
def test_an_answer_of_jetstream_becomes(code: int, status: int, kind: type[TidemillError]) -> None:
    assert type(faults.api_fault({"code": status, "err_code": code, "description": ""}, "x")) is kind


def test_a_full_stream_says_when_to_come_again() -> None:
    error = faults.api_fault({"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}, "append")
    assert isinstance(error, ThrottledError)
    assert error.retry_after == timedelta(seconds=1)
