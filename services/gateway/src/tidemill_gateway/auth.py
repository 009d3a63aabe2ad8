"""Who calls: the admin by Basic (OSCAR contract, section 0), compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.exceptions import HTTPException


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminCredentials:
    """Name and password of the admin."""

    username: str
    password: str

    def accept(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header proves the admin."""
        given = _basic(authorization)
        return given is not None and hmac.compare_digest(given, f"{self.username}:{self.password}".encode())


def _basic(authorization: str | None) -> bytes | None:
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def unauthorized() -> HTTPException:
    """401 as OSCAR answers it: empty, with the challenge."""
    return HTTPException(401, "", {"WWW-Authenticate": 'Basic realm="Authorization Required"'})


def admin(credentials: AdminCredentials) -> Callable[[Request], Awaitable[None]]:
    """A FastAPI dependency that lets only the admin pass: `Depends(admin(deps.admin))`."""

    async def check(request: Request) -> None:
        if not credentials.accept(request.headers.get("authorization")):
            raise unauthorized()

    return check


def bearer(authorization: str | None) -> str | None:
    """The token of a Bearer header; None: there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None
