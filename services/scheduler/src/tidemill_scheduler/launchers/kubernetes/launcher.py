"""Workers as Jobs. Starting one is one write to the API; everything else is heard from watches.

The Workers themselves are the record: what was booked for one is an annotation of its Job, so the next scheduler
process finds everything by listing. A Worker is asked to drain over the bus, since ending its pod would end the user's
container with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.errors import ConflictError, TidemillError, UnavailableError
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.launchers.kubernetes.api import Api
from tidemill_scheduler.launchers.kubernetes.bus_secrets import BusSecrets, Credentials, credentials_environment
from tidemill_scheduler.launchers.kubernetes.causes import DEADLINE, NODE_LOST
from tidemill_scheduler.launchers.kubernetes.labels import WORKER, selector
from tidemill_scheduler.launchers.kubernetes.nodes import Node, node_of, pool_of
from tidemill_scheduler.launchers.kubernetes.prefetch import PULLER, Prefetching
from tidemill_scheduler.launchers.kubernetes.queues import Queues
from tidemill_scheduler.launchers.kubernetes.reflector import Change, ChangeType, Reflector, Selection
from tidemill_scheduler.launchers.kubernetes.roster import Roster
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.kubernetes.template import job_of
from tidemill_scheduler.launchers.shells import ShelllessImages
from tidemill_scheduler.ports import Cause, RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec

log = structlog.get_logger()
Drain = Callable[[WorkerSpec], Awaitable[None]]
"""Asks a Worker over the bus to finish what it has and to end."""
_TICK: Final = timedelta(seconds=1)
_REMOVALS: Final = 20
"""Services to clear up after at a time: after a start that is all that were ever removed."""
_KILL_GRACE_SECONDS: Final = 1
"""0 would make the API forget a pod that its node still runs."""


class KubernetesLauncher:
    """Starts Workers as Jobs in one namespace.

    Args:
        api: Opened when it is first needed, closed with the launcher.
        environment: Settings of supervisors, without secrets.
        credentials: What Workers know themselves by on the bus; None: the server asks for nothing.
        drain: Asks a running Worker to drain.
        fixed: Capacity as the settings say; None: of the cluster's nodes.
        max_starting: Workers that may start at the same time; None: any number.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        api: AbstractAsyncContextManager[Api],
        environment: Mapping[str, str],
        credentials: Credentials | None,
        drain: Drain,
        fixed: Pool | None = None,
        max_starting: int | None = None,
    ) -> None:
        self._settings = settings
        self._opening = api
        self._environment = {**environment, **credentials_environment(credentials)}
        self._credentials = credentials
        self._drain = drain
        self._fixed = fixed
        self._max_starting = max_starting
        self._jobs = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{settings.namespace}/pods"
        self._nodes: dict[str, Node] = {}
        self._exits: asyncio.Queue[WorkerEnded | BaseException] = asyncio.Queue()
        self._notices: asyncio.Queue[WorkerNotice] = asyncio.Queue()
        self._doomed: set[WorkerId] = set()
        """Jobs to delete; kept until the API has taken it."""
        self._busy = asyncio.Event()
        self._shellless = ShelllessImages()
        self._roster = Roster(
            settings,
            on_end=self._exits.put_nowait,
            on_notice=self._notices.put_nowait,
            on_withdraw=self._doom,
            on_shellless=self._learn_shellless,
        )
        self._definitions: Mapping[ServiceName, Service] = {}
        self._removed: set[ServiceName] = set()
        self._forgotten: set[ServiceName] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._api: Api | None = None

    async def adopt(self) -> None:
        """Open the API and watch; returns when all that is there is known."""
        if self._api is not None:
            return
        api = self._api = await self._stack.enter_async_context(self._opening)
        self._secrets = BusSecrets(api, self._settings.namespace, self._credentials)
        self._queues = Queues(api, self._settings)
        self._prefetching = Prefetching(api, self._settings)
        reflectors = {name: Reflector(api, *what) for name, what in self._followed().items()}
        for name, reflector in reflectors.items():
            self._begin(name, reflector.run)
            await reflector.listed()
        self._roster.complete()
        self._begin("upkeep", self._keep_up)
        for running in self._roster.workers():
            log.info("worker adopted", worker=running.spec.id, service=running.spec.service)

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        """Create its Job; one that is there already is success.

        Raises:
            UnavailableError: The API is away, or refuses; says why.
        """
        api = self._opened()
        brings_shell = service.image in self._shellless
        job = job_of(
            worker,
            service,
            self._settings,
            environment=self._environment,
            interlink_nodes={node.name for node in self._nodes.values() if node.is_interlink},
            brings_shell=brings_shell,
        )
        try:
            await self._secrets.provide(service.name)
            with contextlib.suppress(ConflictError):
                job = await api.create(self._jobs, job)
        except TidemillError as error:
            raise UnavailableError(f"start Worker {worker.id}: {error}") from error
        is_plain = bool(self._settings.supervisor.shell) and not brings_shell
        self._roster.started(worker, job, datetime.now(UTC), plain_image=service.image if is_plain else "")

    async def stop(self, worker: WorkerId) -> None:
        """Ask it to drain, now and until it has ended; one that has not begun to run is deleted."""
        self._roster.drain(worker)
        for spec in self._roster.draining():
            if spec.id == worker:
                await self._ask_to_drain(spec)

    async def kill(self, worker: WorkerId) -> None:
        """Delete its Job, and its pod with a second's grace."""
        pod = self._roster.pod_name(worker)
        self._roster.kill(worker)
        self._doom(worker)
        if pod is not None:
            with contextlib.suppress(TidemillError):  # the Job's deletion takes it along, only later
                await self._opened().delete(f"{self._pods}/{pod}", gracePeriodSeconds=_KILL_GRACE_SECONDS)

    def workers(self) -> Sequence[RunningWorker]:
        """All that have not ended."""
        return self._roster.workers()

    async def exits(self) -> AsyncIterator[WorkerEnded]:
        """Each Worker's end; a failure of the watching itself surfaces here."""
        while True:
            ended = await self._exits.get()
            if isinstance(ended, BaseException):
                raise ended
            yield ended

    async def notices(self) -> AsyncIterator[WorkerNotice]:
        """Why user containers ended."""
        while True:
            yield await self._notices.get()

    def pool(self) -> Pool | None:
        """The nodes that can take Workers, or what the settings say."""
        if self._fixed is not None:
            return replace(self._fixed, nodes=max(1, sum(node.is_usable for node in self._nodes.values())))
        return pool_of(self._nodes.values(), self._settings, max_starting=self._max_starting)

    async def tend(self, definitions: Mapping[ServiceName, Service], removed: Set[ServiceName]) -> None:
        """Keep what Services have beside Workers: prefetched images, bus identities."""
        self._definitions = definitions
        self._shellless.keep({service.image for service in definitions.values()})
        self._removed |= removed - self._forgotten
        self._forgotten -= definitions.keys()

    async def close(self) -> None:
        """Stop watching. Workers go on; the next scheduler process adopts them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _followed(self) -> dict[str, tuple[Selection, Callable[[Change], None]]]:
        """Jobs first: what the others tell belongs to one."""
        namespace, roster = self._settings.namespace, self._roster
        workers = selector(WORKER)
        events = f"/api/v1/namespaces/{namespace}/events"
        daemonsets = Selection(path=f"/apis/apps/v1/namespaces/{namespace}/daemonsets", labels=selector(PULLER))
        found: dict[str, tuple[Selection, Callable[[Change], None]]] = {
            "jobs": (Selection(path=self._jobs, labels=workers), roster.take_job),
            "pods": (Selection(path=self._pods, labels=workers), roster.take_pod),
            "events": (Selection(path=events, fields="type=Warning"), roster.take_warning),
            "deadlines": (Selection(path=events, fields=f"reason={DEADLINE},type=Normal"), roster.take_warning),
            "daemonsets": (daemonsets, self._prefetching.take),
        }
        if self._settings.nodes.watch:
            found["nodes"] = (Selection(path="/api/v1/nodes"), self._take_node)
        return found

    def _take_node(self, change: Change) -> None:
        node = node_of(change.object, self._settings)
        if change.type is ChangeType.DELETED:
            self._nodes.pop(node.name, None)
            self._roster.take_node(node.name, Cause(NODE_LOST, f"node {node.name} was removed"))
        else:
            self._nodes[node.name] = node
            self._roster.take_node(node.name, node.lost)

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - surfaces at whoever reads exits
                self._exits.put_nowait(error)

        self._tasks.append(asyncio.create_task(run(), name=f"kubernetes {name}"))

    def _learn_shellless(self, image: str) -> None:
        if image not in self._shellless:
            log.info("image has no shell, its Workers bring one", image=image)
            self._shellless.add(image)

    def _doom(self, worker: WorkerId) -> None:
        self._doomed.add(worker)
        self._busy.set()

    async def _keep_up(self) -> None:
        """Everything that is due, when something is, and every second."""
        drained_at = datetime.now(UTC)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK.total_seconds()):
                    await self._busy.wait()
            self._busy.clear()
            now = datetime.now(UTC)
            self._roster.withdraw_overdue(now)
            if now - drained_at >= self._settings.drain_interval:
                drained_at = now
                await asyncio.gather(*map(self._ask_to_drain, self._roster.draining()))
            try:
                await self._write_what_is_due()
            except TidemillError as error:
                log.warning("cluster not tended", error=str(error))

    async def _write_what_is_due(self) -> None:
        api = self._opened()
        for worker in list(self._doomed):
            await api.delete(f"{self._jobs}/{worker}", propagationPolicy="Background")
            self._doomed.discard(worker)
        for service in list(self._removed)[:_REMOVALS]:
            await self._secrets.remove(service)
            await self._queues.remove(service)
            self._removed.discard(service)
            self._forgotten.add(service)
        # after that: who was removed may have been defined again; who was not has Workers that still end
        await self._secrets.renew(self._definitions.keys() & {one.spec.service for one in self._roster.workers()})
        await self._prefetching.tend(self._definitions)
        await self._queues.tend(self._definitions)

    async def _ask_to_drain(self, spec: WorkerSpec) -> None:
        try:
            await self._drain(spec)
        except TidemillError as error:  # it is asked again
            log.warning("worker not asked to drain", worker=spec.id, error=str(error))

    def _opened(self) -> Api:
        if self._api is None:
            raise UnavailableError("the cluster is not watched yet")
        return self._api
