"""Exposed Services in a cluster: everything is applied whole, and what became of it is watched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_common.errors import AccessDeniedError, NotFoundError, TidemillError, UnavailableError
from tidemill_common.secrets import SecretRecord
from tidemill_scheduler.exposing.domain import Exposure, Observation
from tidemill_scheduler.exposing.kubernetes import names
from tidemill_scheduler.exposing.kubernetes.paths import MANAGER, SCALER, path_of, path_to
from tidemill_scheduler.exposing.kubernetes.routes import routes
from tidemill_scheduler.exposing.kubernetes.states import observation
from tidemill_scheduler.exposing.kubernetes.template import (
    TOKEN,
    autoscaler,
    config_map,
    deployment,
    kubernetes_service,
    scale_of,
    secret,
)
from tidemill_scheduler.exposing.kubernetes.traefik import TRAEFIK
from tidemill_scheduler.exposing.lines import newest
from tidemill_scheduler.exposing.ports import OnChange
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object
from tidemill_scheduler.launchers.kubernetes.labels import selector
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType, Reflector, Selection
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import RECORD, service_secret

log = structlog.get_logger()
_LISTED_SECONDS: Final = 20.0
_APPS: Final = "apps/v1"


class KubernetesExposer:
    """Keeps OSCAR's objects of each exposed Service in one namespace."""

    def __init__(
        self,
        api: AbstractAsyncContextManager[KubernetesApi],
        settings: KubernetesSettings,
        exposed: ExposedSettings,
        *,
        on_change: OnChange,
    ) -> None:
        self._opening = api
        self._settings = settings
        self._exposed = exposed
        self._on_change = on_change
        self._stack = AsyncExitStack()
        self._opened: KubernetesApi | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._deployments: dict[str, Object] = {}
        self._pods: dict[str, dict[str, Object]] = {}
        self._addresses: dict[str, str] = {}
        self._applied: dict[str, tuple[str, int]] = {}
        """Version and wish that were brought about, or are being so."""

    async def adopt(self) -> None:
        """Connect, and learn what is there."""
        if self._opened is None:
            self._opened = await self._stack.enter_async_context(self._opening)
        self._applied.clear()
        if not self._watches:
            await self._follow(self._opened)

    async def ensure(self, exposure: Exposure) -> None:
        """Apply what differs from what was applied last."""
        wanted = (exposure.version, exposure.wish_revision)
        if self._applied.get(exposure.name) == wanted:
            return
        self._applied[exposure.name] = wanted  # first: should its Deployment be deleted meanwhile, this is taken back
        try:
            await self._apply_all(exposure, await self._record(exposure.name))
            await self._scale(exposure)
        except BaseException:
            self._applied.pop(exposure.name, None)
            raise

    async def remove(self, service: ServiceName) -> None:
        """Delete every object, in the order that leaves no route to nowhere."""
        for path in self._paths(service):
            await self._api.delete(path, propagationPolicy="Background")
        for known in (self._applied, self._addresses, self._deployments):
            known.pop(service, None)

    def services(self) -> Collection[ServiceName]:
        """Those with a Deployment."""
        return {ServiceName(name) for name in (*self._deployments, *self._applied)}

    def observe(self, service: ServiceName) -> Observation:
        """From the watches."""
        pods = self._pods.get(service, {}).values()
        return observation(self._deployments.get(service), pods, self._addresses.get(service))

    async def logs(self, service: ServiceName, lines: int) -> Sequence[LogLine]:
        """Of all its pods, merged by time."""
        pods = list(self._pods.get(service, {}))
        if not pods:
            raise NotFoundError(f"{service} has no pod")
        found: list[LogLine] = []
        for pod in pods:
            with contextlib.suppress(TidemillError):  # one that has not begun has no log
                path = f"/api/v1/namespaces/{self._settings.namespace}/pods/{pod}/log"
                text = await self._api.text(path, timestamps="true", tailLines=str(lines))
                found += newest(text, lines)
        return sorted(found, key=_time)[-lines:]

    async def release(self) -> None:
        """Watch no more."""
        watches, self._watches = self._watches, []
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def stop_all(self) -> None:
        """Nothing: a cluster goes on without its scheduler."""

    async def close(self) -> None:
        """Release, and close the connection."""
        await self.release()
        await self._stack.aclose()

    @property
    def _api(self) -> KubernetesApi:
        if self._opened is None:
            raise UnavailableError("the cluster has not been looked at yet")
        return self._opened

    async def _follow(self, api: KubernetesApi) -> None:
        labels, namespace = selector(names.EXPOSED), self._settings.namespace
        for known in (self._deployments, self._pods):
            known.clear()  # what was deleted while nobody watched is not told
        followed = (
            Reflector(
                api, Selection(path=f"/apis/{_APPS}/namespaces/{namespace}/deployments", labels=labels), self._see
            ),
            Reflector(api, Selection(path=f"/api/v1/namespaces/{namespace}/pods", labels=labels), self._see_pod),
        )
        self._watches = [asyncio.create_task(reflector.run(), name="exposed-watch") for reflector in followed]
        try:
            async with asyncio.timeout(_LISTED_SECONDS):
                for reflector in followed:
                    await reflector.listed()
        except TimeoutError as error:
            await self.release()
            raise UnavailableError("the cluster does not list exposed services") from error

    def _see(self, change: Change) -> None:
        service = names.service_of(change.object)
        if change.type is ChangeType.DELETED:
            self._deployments.pop(service, None)
            self._applied.pop(service, None)  # by hand: it is made anew
        else:
            self._deployments[service] = change.object
        self._on_change()

    def _see_pod(self, change: Change) -> None:
        pods = self._pods.setdefault(names.service_of(change.object), {})
        name = change.object["metadata"]["name"]
        if change.type is ChangeType.DELETED:
            pods.pop(name, None)
        else:
            pods[name] = change.object
        self._on_change()

    async def _record(self, name: str) -> SecretRecord:
        """The user's secrets, from where the gateway wrote them."""
        path = path_to("v1", "Secret", self._settings.namespace, service_secret(name))
        try:
            found = await self._api.get(path)
        except NotFoundError:
            return SecretRecord()
        body = base64.b64decode((found.get("data") or {}).get(RECORD, "")) or b"{}"
        return SecretRecord.model_validate(json.loads(body))

    async def _apply_all(self, exposure: Exposure, record: SecretRecord) -> None:
        settings, exposed = self._settings, self._exposed
        token = record.environment.get(TOKEN, "")
        wanted = [config_map(exposure, settings), secret(exposure, record.environment, settings)]
        wanted.append(deployment(exposure, settings))
        wanted += routes(exposure, token, settings, exposed)
        if not exposure.wish.stopped:
            wanted.append(autoscaler(exposure, settings))
        found = await self._apply(kubernetes_service(exposure, settings))
        self._addresses[exposure.name] = (
            f"http://{_host(found['spec']['clusterIP'])}:{found['spec']['ports'][0]['port']}"
        )
        for item in wanted:
            await self._apply(item)
        kept = {path_of(item) for item in wanted} | {path_of(kubernetes_service(exposure, settings))}
        for path in self._paths(exposure.name):
            if path not in kept:
                await self._delete_optional(path)

    async def _apply(self, item: Object, *, manager: str = MANAGER) -> Object:
        return await self._api.apply(path_of(item), item, manager=manager)

    async def _delete_optional(self, path: str) -> None:
        """What this cluster does not let us look at was not made by us."""
        with contextlib.suppress(AccessDeniedError):
            await self._api.delete(path)

    async def _scale(self, exposure: Exposure) -> None:
        """Only when it starts or stops: in between the number is the autoscaler's."""
        path = path_to(_APPS, "Deployment", self._settings.namespace, names.deployment(exposure.name))
        now = await self._api.get(path)
        annotations = now["metadata"].get("annotations") or {}
        replicas = int(now["spec"].get("replicas", 1))
        previous = int(annotations.get(names.PREVIOUS_REPLICAS) or 0)
        was_stopped = names.STOPPED in annotations
        if exposure.wish.stopped:
            body = scale_of(exposure, self._settings, 0, previous if was_stopped else replicas)
        elif was_stopped or not exposure.min_scale <= replicas <= exposure.max_scale:
            body = scale_of(exposure, self._settings, _bounded(exposure, previous))
        else:
            return
        await self._apply(body, manager=SCALER)

    def _paths(self, service: str) -> list[str]:
        namespace = self._settings.namespace
        objects = (
            ("gateway.networking.k8s.io/v1", "HTTPRoute", names.route(service)),
            ("networking.k8s.io/v1", "Ingress", names.ingress(service)),
            (TRAEFIK, "Middleware", names.cors_middleware(service)),
            (TRAEFIK, "Middleware", names.auth_middleware(service)),
            (TRAEFIK, "Middleware", names.strip_middleware(service)),
            ("v1", "Secret", names.ingress_password(service)),
            ("v1", "Secret", names.traefik_password(service)),
            ("autoscaling/v2", "HorizontalPodAutoscaler", names.autoscaler(service)),
            (_APPS, "Deployment", names.deployment(service)),
            ("v1", "Service", names.kubernetes_service(service)),
            ("v1", "ConfigMap", service),
            ("v1", "Secret", service),
        )
        return [path_to(version, kind, namespace, name) for version, kind, name in objects]


def _bounded(exposure: Exposure, replicas: int) -> int:
    return min(max(replicas, exposure.min_scale), exposure.max_scale)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _time(line: LogLine) -> datetime:
    return line.at or datetime.min.replace(tzinfo=UTC)
