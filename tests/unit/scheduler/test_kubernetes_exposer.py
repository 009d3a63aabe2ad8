"""The exposer of a cluster over an API server in memory: what is applied again, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest

from tests.unit.scheduler.test_exposed_domain import exposure
from tidemill_common.errors import NotFoundError, UnavailableError
from tidemill_scheduler.exposing.kubernetes.exposer import KubernetesExposer
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

DEPLOYMENT = "/apis/apps/v1/namespaces/tidemill-services/deployments/web-dpl"


class MemoryApi:
    """Keeps what is applied, and tells nothing by itself."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.applied = 0
        self.error: Exception | None = None

    async def get(self, path: str, **query: str) -> Object:
        if path in self.objects:
            return self.objects[path]
        if path.rpartition("/")[2] in ("deployments", "pods"):
            return {"metadata": {"resourceVersion": "1"}, "items": []}
        raise NotFoundError(path)

    async def apply(self, path: str, body: Object, *, manager: str) -> Object:
        if self.error is not None:
            raise self.error
        self.applied += path == DEPLOYMENT
        spec = {"clusterIP": "10.0.0.1", **body.get("spec", {})}
        self.objects[path] = {**body, "spec": spec}
        return self.objects[path]

    async def delete(self, path: str, **options: object) -> None:
        self.objects.pop(path, None)

    async def watch(self, path: str, *, silence: timedelta, **query: str) -> AsyncIterator[Object]:
        await asyncio.Event().wait()
        yield {}


@pytest.fixture
async def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
async def exposer(api: MemoryApi) -> AsyncIterator[KubernetesExposer]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[KubernetesApi]:
        yield cast(KubernetesApi, api)

    made = KubernetesExposer(opened(), KubernetesSettings(), ExposedSettings(), on_change=lambda: None)
    await made.adopt()
    yield made
    await made.close()


async def test_what_was_applied_is_not_applied_again(api: MemoryApi, exposer: KubernetesExposer) -> None:
    for _ in range(2):
        await exposer.ensure(exposure())
    assert api.applied == 1


async def test_a_deployment_that_is_deleted_while_it_is_applied_is_made_anew(
    api: MemoryApi, exposer: KubernetesExposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = api.get

    async def deleted_after(path: str, **query: str) -> Object:
        found = await read(path, **query)
        if path == DEPLOYMENT:
            monkeypatch.undo()
            exposer._see(Change(ChangeType.DELETED, api.objects.pop(path)))
        return found

    monkeypatch.setattr(api, "get", deleted_after)
    await exposer.ensure(exposure())
    assert DEPLOYMENT not in api.objects
    await exposer.ensure(exposure())
    assert DEPLOYMENT in api.objects


async def test_what_could_not_be_applied_is_tried_again(api: MemoryApi, exposer: KubernetesExposer) -> None:
    api.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        await exposer.ensure(exposure())
    assert exposer.services() == set()
    api.error = None
    await exposer.ensure(exposure())
    assert DEPLOYMENT in api.objects
