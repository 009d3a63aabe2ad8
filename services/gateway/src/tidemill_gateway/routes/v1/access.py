"""Who may use `/v1`: the admin everything; a Service's token may read that Service's Invocations."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from tidemill_common.errors import AccessDeniedError
from tidemill_gateway.auth import bearer, unauthorized
from tidemill_gateway.dependencies import Dependencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Somebody who may read."""

    deps: Dependencies
    token: str | None
    """None: the admin."""

    def require(self, service: str | None) -> None:
        """Refuse a token for anything but its own Service.

        Raises:
            AccessDeniedError: Another Service, or all of them.
        """
        if self.token is None:
            return
        if service is None or self.deps.catalogue.service_of_token(service, self.token) is None:
            raise AccessDeniedError("this token is for the invocations of its own service only")


class Readers:
    """A FastAPI dependency: `Depends(Readers(deps))` gives a Reader or 401."""

    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps

    async def __call__(self, request: Request) -> Reader:
        """Who reads."""
        authorization = request.headers.get("authorization")
        if self._deps.admin.accept(authorization):
            return Reader(deps=self._deps, token=None)
        token = bearer(authorization)
        if token is None:
            raise unauthorized()
        return Reader(deps=self._deps, token=token)
