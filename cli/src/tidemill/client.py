"""The gateway's API as a client sees it: OSCAR's paths for Services and calls, /v1 for what OSCAR does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import httpx

from tidemill.errors import CliError, Exit
from tidemill.platform.connection import Connection

_TIMEOUT: Final = httpx.Timeout(30, connect=5)
INVOCATION_HEADER: Final = "Tidemill-Invocation-Id"


class GatewayClient:
    """Talks to one gateway."""

    def __init__(self, http: httpx.AsyncClient, endpoint: str) -> None:
        self._http = http
        self.endpoint = endpoint

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: Connection) -> AsyncIterator[Self]:
        """A client for the length of the block."""
        async with httpx.AsyncClient(
            base_url=connection.endpoint,
            auth=(connection.username, connection.password) if connection.username else None,
            timeout=_TIMEOUT,
            verify=connection.verify,
            headers={"User-Agent": "tidemill"},
        ) as http:
            yield cls(http, connection.endpoint)

    async def request(
        self, method: str, path: str, *, missing: str = "", timeout: httpx.Timeout = _TIMEOUT, **parts: Any
    ) -> httpx.Response:
        """One request that must succeed.

        Args:
            missing: What is not there when the answer is 404.

        Raises:
            CliError: It did not; the exit code says how.
        """
        try:
            answer = await self._http.request(method, path, timeout=timeout, **parts)
        except httpx.TimeoutException as error:
            raise CliError(f"{self.endpoint} did not answer in time ({method} {path})", Exit.CONNECTION) from error
        except httpx.HTTPError as error:
            raise CliError(f"{self.endpoint} does not answer: {_why(error)}", Exit.CONNECTION) from error
        self._check(answer, missing)
        return answer

    def _check(self, answer: httpx.Response, missing: str) -> None:
        if answer.is_success:
            return
        text = problem_text(answer)
        match answer.status_code:
            case 401 | 403:
                raise CliError(f"{self.endpoint} refuses: {text}", Exit.CONNECTION)
            case 404:
                raise CliError(f"there is no {missing}" if missing else text, Exit.NOT_FOUND)
            case 502 | 503 | 504:
                raise CliError(f"not available: {text}", Exit.CONNECTION)
            case 400 | 422:
                raise CliError(text, Exit.USAGE)
        raise CliError(f"{answer.status_code}: {text}")

    async def get(self, path: str, *, missing: str = "", **query: Any) -> Any:
        """A JSON document; parameters that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return (await self.request("GET", path, missing=missing, params=wanted)).json()

    async def pages(
        self, path: str, *, limit: int | None = None, page: str = "cursor", **query: Any
    ) -> list[dict[str, Any]]:
        """The items of a list, page by page, at most `limit` of them.

        Args:
            page: Name of the parameter that asks for the next page.
        """
        items: list[dict[str, Any]] = []
        wanted: dict[str, Any] = dict(query)
        while True:
            answer = await self.get(path, **wanted)
            items += answer["items"]
            wanted[page] = answer.get("next")
            if wanted[page] is None or (limit is not None and len(items) >= limit):
                return items[:limit]

    async def lines(self, path: str, **query: Any) -> AsyncIterator[str]:
        """Lines of a text as it is written, until the server ends it."""
        endless = httpx.Timeout(10, read=None)
        try:
            async with self._http.stream("GET", path, params=query, timeout=endless) as answer:
                if not answer.is_success:
                    await answer.aread()
                self._check(answer, "")
                async for line in answer.aiter_lines():
                    yield line
        except httpx.HTTPError as error:
            raise CliError(f"{self.endpoint} went away: {_why(error)}", Exit.CONNECTION) from error

    async def service(self, name: str) -> dict[str, Any] | None:
        """A Service's definition; None: there is none."""
        try:
            found: dict[str, Any] = await self.get(f"/system/services/{name}", missing=f"Service {name}")
        except CliError as error:
            if error.code is Exit.NOT_FOUND:
                return None
            raise
        return found

    async def invocation(self, identity: str) -> dict[str, Any]:
        """What is known of an Invocation.

        Raises:
            CliError: There is none with this id.
        """
        found: dict[str, Any] = await self.get(f"/v1/invocations/{identity}", missing=f"Invocation {identity}")
        return found

    async def token(self, service: str) -> str:
        """The token with which a Service is called.

        Raises:
            CliError: There is no such Service.
        """
        document = await self.get(f"/system/services/{service}", missing=f"Service {service}")
        return str(document["token"])

    async def job(self, service: str, body: bytes) -> str:
        """Call a Service and do not wait; returns the Invocation's id."""
        headers = {"Authorization": f"Bearer {await self.token(service)}"}
        answer = await self.request("POST", f"/job/{service}", content=body, headers=headers, auth=None)
        return str(answer.headers.get(INVOCATION_HEADER, ""))

    async def run(self, service: str, body: bytes, *, timeout_seconds: float | None) -> httpx.Response:
        """Call a Service and wait for its answer."""
        headers = {"Authorization": f"Bearer {await self.token(service)}"}
        wait = httpx.Timeout(30, read=timeout_seconds)
        return await self.request("POST", f"/run/{service}", content=body, headers=headers, auth=None, timeout=wait)


def problem_text(answer: httpx.Response) -> str:
    """What an error answer says: an RFC 9457 problem's detail, an OSCAR text, or the status."""
    try:
        body = answer.json()
    except ValueError:
        body = answer.text.strip()
    if isinstance(body, Mapping):
        body = body.get("detail") or body.get("title") or body.get("message") or ""
    return str(body) or f"{answer.status_code} {answer.reason_phrase}"


def _why(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
