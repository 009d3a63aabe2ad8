"""Errors as HTTP: RFC 9457 problems below `/v1`, texts as in OSCAR elsewhere; one taxonomy for both."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    InvalidMessageError,
    NotFoundError,
    TidemillError,
    TransientError,
    UnsupportedError,
)

log = structlog.get_logger(__name__)

_STATUSES: Final[tuple[tuple[type[TidemillError], HTTPStatus], ...]] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (InvalidInputError, HTTPStatus.BAD_REQUEST),
    (InvalidMessageError, HTTPStatus.BAD_REQUEST),
    (AccessDeniedError, HTTPStatus.FORBIDDEN),
    (UnsupportedError, HTTPStatus.NOT_IMPLEMENTED),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
)
PROBLEM: Final = "application/problem+json"


def status_of(error: TidemillError) -> HTTPStatus:
    """The HTTP status that says the same."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An RFC 9457 problem."""
    content: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        content["detail"] = detail
    return JSONResponse(content, status, headers, media_type=PROBLEM)


def add_handlers(app: FastAPI) -> None:
    """Let the application answer errors this way."""
    app.add_exception_handler(TidemillError, _tidemill_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _bug)


def _answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    if request.url.path.startswith("/v1"):
        return problem(status, detail, headers)
    return PlainTextResponse(detail, status, headers)


async def _tidemill_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TidemillError)
    headers: dict[str, str] = {}
    if isinstance(error, TransientError):
        hint = error.retry_after.total_seconds() if error.retry_after else 1.0
        headers["Retry-After"] = str(max(1, round(hint)))
    return _answer(request, status_of(error), str(error), headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    unrouted = error.status_code == 405 or (error.status_code == 404 and error.detail == "Not Found")
    if unrouted:
        return _answer(request, 404, "404 page not found")
    headers = dict(error.headers or {})
    if error.status_code == 401 and not request.url.path.startswith("/v1"):
        return Response(status_code=401, headers=headers)
    return _answer(request, error.status_code, error.detail, headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _answer(request, 400, f"{where}: {first['msg']}")


async def _bug(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return _answer(request, 500, "internal error")
