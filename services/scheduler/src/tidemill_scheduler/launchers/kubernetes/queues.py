"""Kueue's LocalQueues of Services, as OSCAR makes them: one each, which leads to the ClusterQueue of its owner.

ClusterQueues are the operator's: they say how much an owner may take. A pattern without `{service}` names queues that
several Services share; those are the operator's as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Service
from tidemill_common.errors import ConflictError, NotFoundError
from tidemill_scheduler.launchers.kubernetes.api import Api, Object
from tidemill_scheduler.launchers.kubernetes.labels import (
    MANAGED,
    SERVICE_LABEL,
    cluster_queue_of,
    is_queued,
    local_queue_of,
)
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

log = structlog.get_logger()
_GROUP: Final = "kueue.x-k8s.io"
_AGAIN: Final = timedelta(seconds=30)
"""Where Kueue is not installed it is looked for again after this."""


class Queues:
    """The LocalQueues of one namespace."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._is_ours = settings.kueue and "{service}" in settings.kueue_queue
        self._made: set[ServiceName] = set()
        self._version = ""
        """Of Kueue's API; empty: not known yet."""
        self._next_look = datetime.min.replace(tzinfo=UTC)

    async def tend(self, services: Mapping[ServiceName, Service]) -> None:
        """Make those that are missing.

        Raises:
            TidemillError: One could not be made.
        """
        if not self._is_ours:
            return
        queued = (service for service in services.values() if is_queued(service, self._settings))
        missing = [service for service in queued if service.name not in self._made]
        if not missing or not await self._find_kueue():
            return
        for service in missing:
            try:
                await self._api.create(self._path(), _local_queue(service, self._version, self._settings))
            except ConflictError:
                log.debug("queue is there", service=service.name)
            self._made.add(service.name)

    async def remove(self, service: ServiceName) -> None:
        """The Service is no more."""
        self._made.discard(service)
        if self._is_ours and await self._find_kueue():
            name = self._settings.kueue_queue.format(service=service, owner="")
            await self._api.delete(f"{self._path()}/{name}")

    def _path(self) -> str:
        return f"/apis/{_GROUP}/{self._version}/namespaces/{self._settings.namespace}/localqueues"

    async def _find_kueue(self) -> bool:
        """Whether it is installed; looks once in a while."""
        now = datetime.now(UTC)
        if not self._version and now >= self._next_look:
            self._next_look = now + _AGAIN
            try:
                found = await self._api.get(f"/apis/{_GROUP}")
                self._version = str(found["preferredVersion"]["version"])
            except NotFoundError:
                log.warning("Kueue is not installed, Jobs wait for it")
        return bool(self._version)


def _local_queue(service: Service, version: str, settings: KubernetesSettings) -> Object:
    labels = {**MANAGED, "app.kubernetes.io/component": "queue", SERVICE_LABEL: service.name}
    return {
        "apiVersion": f"{_GROUP}/{version}",
        "kind": "LocalQueue",
        "metadata": {"name": local_queue_of(service, settings), "namespace": settings.namespace, "labels": labels},
        "spec": {"clusterQueue": cluster_queue_of(service, settings)},
    }
