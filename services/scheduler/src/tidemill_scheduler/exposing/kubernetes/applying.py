"""What the launcher's client of the API server lacks: server-side apply, and texts."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp

from tidemill_common.errors import NotFoundError, UnavailableError
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object, _check

MANAGER: Final = "tidemill"
SCALER: Final = "tidemill-scale"
"""Owner of the number of pods, so that applying the rest does not undo the autoscaler's."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=5)
_PLURALS: Final = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Ingress": "ingresses",
    "HTTPRoute": "httproutes",
    "Middleware": "middlewares",
}


def path_of(item: Object) -> str:
    """Where an object is."""
    meta = item["metadata"]
    return path_to(item["apiVersion"], item["kind"], meta["namespace"], meta["name"])


def path_to(version: str, kind: str, namespace: str, name: str) -> str:
    """Where an object of this name is."""
    root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/{namespace}/{_PLURALS[kind]}/{name}"


class ApplyingApi(KubernetesApi):
    """The same connection, with more verbs."""

    @classmethod
    def over(cls, api: KubernetesApi) -> ApplyingApi:
        """The one that is open."""
        return cls(api._client)

    async def apply(self, item: Object, *, manager: str = MANAGER) -> Object:
        """Make it so, whatever is there (https://kubernetes.io/docs/reference/using-api/server-side-apply/).

        Raises:
            InvalidInputError: The server refuses its fields.
            AccessDeniedError, NotFoundError, ThrottledError, UnavailableError: As the server says.
        """
        query = [("fieldManager", manager), ("force", "true")]
        header = {"Content-Type": "application/apply-patch+yaml"}
        found: Object = json.loads(await self._bytes("PATCH", path_of(item), query, header, item))
        return found

    async def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        try:
            await self.get(path)
        except NotFoundError:
            return False
        return True

    async def text(self, path: str, **query: str) -> str:
        """What is no JSON: a pod's log."""
        return (await self._bytes("GET", path, list(query.items()), {}, None)).decode(errors="replace")

    async def _bytes(
        self, method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: Object | None
    ) -> bytes:
        what = f"{method} {path}"
        try:
            response: Any = await self._client.call_api(
                path,
                method,
                query_params=query,
                header_params={"Accept": "application/json, */*", **headers},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
            async with response:
                await _check(response, what)
                found: bytes = await response.read()
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{what}: {error or type(error).__name__}") from error
