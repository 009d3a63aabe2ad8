"""The Kubernetes API as plain dictionaries, over the connection and the credentials of kubernetes-asyncio.

Its models are not used: they double each object's memory and time, and drop fields that they do not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import aiohttp
import msgspec
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    UnavailableError,
)

Object: TypeAlias = dict[str, Any]
"""Any Kubernetes object, as it is on the wire."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=5)
_CONNECTIONS: Final = 64
"""Watches hold one each for ever."""


class GoneError(TidemillError):
    """The resourceVersion is too old: list again."""


class Api(Protocol):
    """What the launcher needs of the API server."""

    async def get(self, path: str, **query: str) -> Object:
        """One object or a list.

        Raises:
            NotFoundError, AccessDeniedError, ThrottledError, UnavailableError: As the server says.
            GoneError: A continued list is too old.
        """
        ...

    async def create(self, path: str, body: Object) -> Object:
        """POST.

        Raises:
            ConflictError: It exists already.
            InvalidInputError: The server refuses its fields.
        """
        ...

    async def replace(self, path: str, body: Object) -> Object:
        """PUT."""
        ...

    async def delete(self, path: str, **options: object) -> None:
        """DELETE with DeleteOptions; what is not there is success."""
        ...

    def watch(self, path: str, *, silence: timedelta, **query: str) -> AsyncIterator[Object]:
        """Watch events (`{"type", "object"}`) until the server ends the watch.

        Args:
            silence: A connection without a byte for this long may be dead: the watch ends as well.

        Raises:
            GoneError: The resourceVersion is too old.
        """
        ...


class KubernetesApi:
    """A real API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, path: str, **query: str) -> Object:
        """One object or a list."""
        return await self._call("GET", path, query=query)

    async def create(self, path: str, body: Object) -> Object:
        """POST."""
        return await self._call("POST", path, body=body)

    async def replace(self, path: str, body: Object) -> Object:
        """PUT."""
        return await self._call("PUT", path, body=body)

    async def apply(self, path: str, body: Object, *, manager: str) -> Object:
        """Make it so, whatever is there (https://kubernetes.io/docs/reference/using-api/server-side-apply/)."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._call("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

    async def text(self, path: str, **query: str) -> str:
        """What is no JSON: a pod's log."""
        return (await self._bytes("GET", path, query=query)).decode(errors="replace")

    async def delete(self, path: str, **options: object) -> None:
        """DELETE; what is not there is success."""
        try:
            await self._call("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except NotFoundError:
            return

    async def watch(self, path: str, *, silence: timedelta, **query: str) -> AsyncIterator[Object]:
        """Watch events until the server ends the watch, or is silent for too long."""
        timeout = aiohttp.ClientTimeout(connect=5, sock_read=silence.total_seconds())
        try:
            response = await self._request("GET", path, {**query, "watch": "true"}, None, timeout)
            async with response:
                with _dropped(response):
                    await _check(response, f"watch {path}")
                    async for line in _lines(response.content):
                        yield _event(msgspec.json.decode(line), path)
        except aiohttp.SocketTimeoutError:
            return
        except _BROKEN as error:
            raise UnavailableError(f"watch {path}: {error or type(error).__name__}") from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        found: Object = msgspec.json.decode(
            await self._bytes(method, path, query=query, body=body, content_type=content_type)
        )
        return found

    async def _bytes(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        try:
            async with await self._request(method, path, query or {}, body, _TIMEOUT, content_type) as response:
                await _check(response, f"{method} {path}")
                return await response.read()
        except _BROKEN as error:
            raise UnavailableError(f"{method} {path}: {error or type(error).__name__}") from error

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        timeout: aiohttp.ClientTimeout,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "application/json, */*", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=timeout,
        )
        return response


@asynccontextmanager
async def open_api(kubeconfig: Path | None, context: str | None) -> AsyncIterator[KubernetesApi]:
    """A connection to the API server that the settings, the pod or the environment name.

    Raises:
        InvalidInputError: There is none, or its configuration cannot be read.
    """
    configuration = await _configuration(kubeconfig, context)
    configuration.connection_pool_maxsize = _CONNECTIONS
    client = ApiClient(configuration)
    client.user_agent = "tidemill-scheduler"
    try:
        yield KubernetesApi(client)
    finally:
        await client.close()


async def _configuration(kubeconfig: Path | None, context: str | None) -> Configuration:
    found = Configuration()
    try:
        if kubeconfig is None:
            try:
                config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]  # untyped there
            except config.ConfigException:
                await config.load_kube_config(context=context, client_configuration=found)
        else:
            await config.load_kube_config(str(kubeconfig), context=context, client_configuration=found)
    except (config.ConfigException, OSError, ValueError) as error:
        raise InvalidInputError(f"no cluster to talk to: {error}") from error
    return found


_BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, asyncio.IncompleteReadError)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: objects may be larger than the reader's buffer."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            continue
        *whole, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in whole:
            if line:
                yield line


def _event(event: Object, path: str) -> Object:
    if event.get("type") == "ERROR":
        status = event.get("object", {})
        raise _error_of(status.get("code", 500), f"watch {path}", status, None)
    return event


@contextmanager
def _dropped(response: aiohttp.ClientResponse) -> Iterator[None]:
    """End the connection of an answer that was left before its end; TLS would wait for the other side's goodbye."""
    try:
        yield
    finally:
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


async def _check(response: aiohttp.ClientResponse, what: str) -> None:
    if response.status < 400:
        return
    body = await response.read()
    try:
        status = msgspec.json.decode(body)
    except ValueError:
        status = {"message": body[:300].decode(errors="replace")}
    raise _error_of(
        response.status, what, status if isinstance(status, dict) else {}, response.headers.get("Retry-After")
    )


_ERRORS: Final[Mapping[int, type[TidemillError]]] = {
    400: InvalidInputError,
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidInputError,
}


def _error_of(code: int, what: str, status: Mapping[str, Any], retry_after: str | None) -> TidemillError:
    """One table from the API's answers to our errors: what it does not name may pass."""
    said = f"{what}: {status.get('message') or code}"
    if (found := _ERRORS.get(code)) is not None:
        return found(said)
    seconds = timedelta(seconds=int(retry_after)) if retry_after and retry_after.isdigit() else None
    return ThrottledError(said, retry_after=seconds) if code == 429 else UnavailableError(said, retry_after=seconds)
