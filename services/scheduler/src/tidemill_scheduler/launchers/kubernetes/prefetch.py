"""`image_prefetch`: a DaemonSet that has every node pull a Service's image, gone once all have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Service
from tidemill_common.errors import ConflictError, PermanentError, TidemillError
from tidemill_scheduler.launchers.kubernetes.api import Api, Object
from tidemill_scheduler.launchers.kubernetes.labels import MANAGED, SERVICE_LABEL
from tidemill_scheduler.launchers.kubernetes.placement import placement_of
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType
from tidemill_scheduler.launchers.kubernetes.security import pod_security, user_security
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import pull_policy, pull_secrets

log = structlog.get_logger()
PULLER: Final = {**MANAGED, "app.kubernetes.io/component": "image-puller"}
_WAITING: Final = ["/bin/sh", "-c", "trap 'exit 0' TERM; while sleep 3600 & wait $!; do :; done"]


def puller_of(service: Service, settings: KubernetesSettings) -> Object:
    """The DaemonSet; its pods wait and cost next to nothing."""
    labels = {**PULLER, SERVICE_LABEL: service.name}
    little = {"cpu": "1m", "memory": "8Mi"}
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": pod_security(settings),
        "imagePullSecrets": pull_secrets(service, settings),
        "containers": [
            {
                "name": "image",
                "image": service.image,
                "imagePullPolicy": pull_policy(service.image, settings.user.pull_policy),
                "command": _WAITING,
                "resources": {"requests": little, "limits": {"memory": "32Mi"}},
                "securityContext": user_security(service, settings),
            }
        ],
        **placement_of(service, settings, frozenset()),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": puller_name(service.name), "namespace": settings.namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def puller_name(service: str) -> str:
    """OSCAR's name."""
    return f"image-puller-{service}"


def has_pulled(daemonset: Object) -> bool:
    """Whether every node has the image."""
    status = daemonset.get("status", {})
    wanted: int = status.get("desiredNumberScheduled", 0)
    ready: int = status.get("numberReady", 0)
    is_current: bool = status.get("observedGeneration", 0) >= daemonset["metadata"].get("generation", 0)
    return is_current and 0 < wanted <= ready


class Prefetching:
    """Makes the DaemonSets that definitions ask for, and removes those that are done."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._path = f"/apis/apps/v1/namespaces/{settings.namespace}/daemonsets"
        self._asked: dict[ServiceName, str] = {}
        """The image that was last asked for; each is pulled once in a scheduler's life."""
        self._there: dict[ServiceName, Object] = {}

    def take(self, change: Change) -> None:
        """A DaemonSet has changed."""
        service = ServiceName(change.object["metadata"].get("labels", {}).get(SERVICE_LABEL, ""))
        if change.type is ChangeType.DELETED:
            self._there.pop(service, None)
        else:
            kept = {name: change.object["metadata"].get(name) for name in ("generation", "creationTimestamp")}
            self._there[service] = {"metadata": kept, "status": change.object.get("status", {})}

    async def tend(self, definitions: Mapping[ServiceName, Service]) -> None:
        """One look at everything."""
        wanted = {name: service for name, service in definitions.items() if service.image_prefetch}
        for name in [name for name in self._there if name not in wanted or self._is_over(name)]:
            await self._api.delete(f"{self._path}/{puller_name(name)}", propagationPolicy="Background")
        for name in [name for name in self._asked if name not in wanted]:
            del self._asked[name]
        for name, service in wanted.items():
            if self._asked.get(name) != service.image:
                await self._ask(service)

    def _is_over(self, name: ServiceName) -> bool:
        daemonset = self._there[name]
        made = daemonset["metadata"].get("creationTimestamp")
        age = datetime.now(UTC) - datetime.fromisoformat(made) if made else None
        if age is not None and age >= self._settings.prefetch_timeout:
            log.warning("image not pulled everywhere in time", service=name)
            return True
        return has_pulled(daemonset)

    async def _ask(self, service: Service) -> None:
        daemonset = puller_of(service, self._settings)
        try:
            await self._api.create(self._path, daemonset)
        except ConflictError:
            await self._api.replace(f"{self._path}/{puller_name(service.name)}", daemonset)
        except TidemillError as error:
            log.warning("image not prefetched", service=service.name, error=str(error))
            if not isinstance(error, PermanentError):
                return
        self._asked[service.name] = service.image
