"""How OSCAR answers: text for errors, empty bodies for writes, JSON bodies read whatever their content type says.

One table says which status each of our errors has here (OSCAR contract, sections 0 and 1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    TransientError,
    UnsupportedError,
)
from tidemill_gateway.catalogue.errors import NameTakenError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_STATUS: Final[tuple[tuple[type[TidemillError], int], ...]] = (
    (NameTakenError, 400),
    (InvalidInputError, 400),
    (NotFoundError, 404),
    (AccessDeniedError, 403),
    (ConflictError, 409),
    (UnsupportedError, 501),
    (ThrottledError, 429),
    (TransientError, 503),
)
_TRUE: Final = frozenset({"1", "t", "true"})


class OscarRoute(APIRoute):
    """A route whose errors are texts."""

    def get_route_handler(self) -> Handler:
        """The handler, with our errors turned into answers."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except TidemillError as error:
                return PlainTextResponse(str(error), status_of(error))

        return answer


def status_of(error: TidemillError) -> int:
    """The HTTP status that OSCAR's clients understand best."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def text(body: str, status: int = 200) -> Response:
    """A text."""
    return PlainTextResponse(body, status)


def document(body: object, status: int = 200) -> Response:
    """A JSON document."""
    return JSONResponse(body, status)


def empty(status: int) -> Response:
    """Nothing but a status."""
    return Response(status_code=status)


def page_not_found() -> Response:
    """Unknown paths and wrong methods alike."""
    return PlainTextResponse("404 page not found", 404)


async def posted(request: Request, *, what: str) -> Mapping[str, Any]:
    """The JSON object in the body.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{what} is not valid: {error}") from error
    if not isinstance(body, Mapping):
        raise InvalidInputError(f"{what} is not valid: it must be a JSON object")
    return body


def field(body: Mapping[str, Any], name: str) -> Any:
    """The value of a key in any case; None: it is not there."""
    return next((value for key, value in body.items() if key.lower() == name), None)


def text_field(body: Mapping[str, Any], name: str) -> str:
    """A text of the body; absent or null: empty.

    Raises:
        InvalidInputError: It is something else.
    """
    value = field(body, name)
    if value is None or isinstance(value, str):
        return value or ""
    raise InvalidInputError(f"{name} must be text")


def texts_field(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts of the body; absent or null: empty.

    Raises:
        InvalidInputError: It is something else.
    """
    value = field(body, name) or []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InvalidInputError(f"{name} must be a list of texts")


def flag(request: Request, name: str) -> bool:
    """A truth value of the query; anything that is not true is false."""
    return request.query_params.get(name, "").lower() in _TRUE
