"""Secret records as Kubernetes Secrets: one a record in the namespace of the Workers, each written with one request.

A plain HTTP client: three requests need no generated library, which would cost each process nearly 40 MB. Server-side
apply makes a write whole, safe to repeat and free of a read before it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp

from tidemill_common.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    UnavailableError,
)
from tidemill_common.secrets.records import PLATFORM, SecretRecord

KEY: Final = "record.json"
"""The one key of each Secret; Workers mount it as a file."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_MANAGER: Final = "tidemill"
_APPLYING: Final = {"fieldManager": _MANAGER, "force": "true"}
"""https://kubernetes.io/docs/reference/using-api/server-side-apply/"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesAccess:
    """How a process in a pod reaches the API server."""

    server: str
    namespace: str
    token_file: Path
    """Read for each request: the kubelet renews it about once an hour."""
    ca_file: Path
    timeout: timedelta = timedelta(seconds=10)
    """Of one request."""


@asynccontextmanager
async def open_kubernetes_secrets(access: KubernetesAccess) -> AsyncIterator[KubernetesSecretStore]:
    """The Secrets of one namespace.

    Raises:
        InvalidInputError: A file that `access` names is not there.
    """
    try:
        trust = ssl.create_default_context(cafile=str(access.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(f"secrets: the CA of the API server, {access.ca_file}: {error}") from error
    timeout = aiohttp.ClientTimeout(total=access.timeout.total_seconds())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), timeout=timeout) as session:
        yield KubernetesSecretStore(session, access)


class KubernetesSecretStore:
    """Records as Secrets `tidemill-service-<name>`, and `tidemill-platform` for the platform's."""

    def __init__(self, session: aiohttp.ClientSession, access: KubernetesAccess) -> None:
        self._session = session
        self._access = access

    async def get(self, name: str) -> SecretRecord | None:
        """The record, or None.

        Raises:
            InvalidInputError: There is a Secret of this name that we did not write.
        """
        if not _is_possible(name):
            return None
        try:
            secret = await self._ask("GET", name)
        except NotFoundError:
            return None
        return _record(name, secret)

    async def put(self, name: str, record: SecretRecord) -> None:
        """Write it whole or not at all.

        Raises:
            InvalidInputError: The name cannot be an object's name, or the record is too large (1 MiB).
        """
        if not _is_possible(name):
            raise InvalidInputError(f"name {name!r}: on Kubernetes it has small letters, digits and '-' alone")
        await self._ask("PATCH", name, manifest(name, self._access.namespace, record))

    async def remove(self, name: str) -> None:
        """Forget it; one that is not there is success."""
        if not _is_possible(name):
            return
        try:
            await self._ask("DELETE", name)
        except NotFoundError:
            return

    async def _ask(self, method: str, name: str, body: Mapping[str, object] | None = None) -> Mapping[str, object]:
        what = f"{method} secret {secret_name(name)} in {self._access.namespace}"
        url = f"{self._access.server}/api/v1/namespaces/{self._access.namespace}/secrets/{secret_name(name)}"
        params = None if body is None else _APPLYING
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        try:
            async with self._session.request(method, url, headers=self._headers(), params=params, data=data) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{what}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise error_of(answer.status, f"{what}: {_message(text)}", answer.headers)
        found: Mapping[str, object] = json.loads(text)
        return found

    def _headers(self) -> dict[str, str]:
        try:
            token = self._access.token_file.read_text().strip()
        except OSError as error:
            raise AccessDeniedError(f"secrets: the service account's token: {error}") from error
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"}


def secret_name(name: str) -> str:
    """The Secret that keeps a record."""
    return "tidemill-platform" if name == PLATFORM else f"tidemill-service-{name}"


def manifest(name: str, namespace: str, record: SecretRecord) -> dict[str, object]:
    """The Secret of a record."""
    labels = {"app.kubernetes.io/managed-by": _MANAGER, "app.kubernetes.io/component": "secrets"}
    if name != PLATFORM:
        labels["tidemill.io/service"] = name
    value = base64.b64encode(record.model_dump_json().encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(name), "namespace": namespace, "labels": labels},
        "data": {KEY: value},
    }


def error_of(status: int, message: str, headers: Mapping[str, str]) -> TidemillError:
    """What an answer of the API server means."""
    match status:
        case 401 | 403:
            return AccessDeniedError(message)
        case 404:
            return NotFoundError(message)
        case 429:
            after = headers.get("Retry-After", "")
            return ThrottledError(message, retry_after=timedelta(seconds=int(after)) if after.isdigit() else None)
        case 409 | 500 | 502 | 503 | 504:  # 409: somebody else wrote at the same moment, or the namespace is going
            return UnavailableError(message)
    return InvalidInputError(message)


def _is_possible(name: str) -> bool:
    return len(name) <= 200 and _NAME.fullmatch(name) is not None


def _record(name: str, secret: Mapping[str, object]) -> SecretRecord:
    data = secret.get("data")
    encoded = data.get(KEY) if isinstance(data, Mapping) else None
    if not isinstance(encoded, str):
        raise InvalidInputError(f"secret {secret_name(name)} has no key {KEY}")
    try:
        return SecretRecord.model_validate_json(base64.b64decode(encoded))
    except ValueError as error:
        raise InvalidInputError(f"secret {secret_name(name)}: {KEY} is no record of ours") from error


def _message(text: str) -> str:
    """The API server's own words; of a refused Secret never its values."""
    try:
        status = json.loads(text)
    except ValueError:
        return text[:200]
    return str(status.get("message", ""))[:500] if isinstance(status, dict) else ""
