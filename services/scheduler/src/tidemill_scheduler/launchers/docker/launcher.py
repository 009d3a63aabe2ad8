"""Workers as a supervisor of this machine and a container of the user's image beside it.

The process launcher starts the supervisors; here each gets its container. A Worker lives as long as its supervisor:
when that ends, the container is removed. When the container ends first, the supervisor is told why and ends by itself.
Containers are known by their labels, so whatever a scheduler process that died left behind is found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.errors import TidemillError, TransientError, UnavailableError
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.launchers.docker.containers import ending
from tidemill_scheduler.launchers.docker.engine import ContainerEvent, ContainerState, ImageError
from tidemill_scheduler.launchers.docker.images import Images, ImageState
from tidemill_scheduler.launchers.docker.user_containers import UserContainers
from tidemill_scheduler.launchers.docker.watching import Watch
from tidemill_scheduler.ports import Cause, Launcher, RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec

log = structlog.get_logger()
IMAGE_FAILED: Final = "ErrImagePull"
_MAX_SHOWN: Final = 500
_REMOVE_AGAIN: Final = (0.5, 2, 5, 0)
"""Seconds to wait after each failure to remove a container while Docker answers."""
_TEND_EVERY: Final = 0.5
"""Seconds; rounds may come much faster than Services change."""


class ContainerHost(Protocol):
    """Where containers run."""

    async def remove(self, name: str) -> None:
        """Kill and remove one."""
        ...

    async def inspect(self, name: str) -> ContainerState | None:
        """One as it is."""
        ...


@dataclass(slots=True)
class _Pair:
    """A Worker, from its start until nothing of it is left."""

    spec: WorkerSpec
    image: str
    started_at: datetime
    has_process: bool = False
    has_container: bool = False
    is_draining: bool = False
    is_killed: bool = False
    failure: Cause | None = None
    """Why it cannot run."""
    ended: Cause | None = None
    """Why its container ended under it."""
    starting: asyncio.Task[None] | None = None


@dataclass
class DockerLauncher:
    """Starts Workers on this machine, their user code in containers.

    Args:
        supervisors: Starts the supervisors.
        host: Where the containers run.
        images: Brings their images.
        watch: Tells what happens to the containers.
        containers: Starts them.
        directory_of: The worker directory, which both see.
        wanted: Images to have before they are needed, of these Services.
        known: Workers of this platform, also those of another scheduler process on this machine.
    """

    supervisors: Launcher
    host: ContainerHost
    images: Images
    watch: Watch
    containers: UserContainers
    directory_of: Callable[[WorkerId], Path]
    wanted: Callable[[Collection[Service]], Collection[str]]
    known: Callable[[], frozenset[WorkerId]]
    _pairs: dict[WorkerId, _Pair] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _ended: asyncio.Queue[WorkerEnded] = field(default_factory=asyncio.Queue)
    _notices: asyncio.Queue[WorkerNotice] = field(default_factory=asyncio.Queue)
    _is_watching: bool = False
    _tended_at: float = float("-inf")

    async def adopt(self) -> None:
        """Take over the Workers that are there; what belongs to none is removed as soon as Docker answers."""
        await self.supervisors.adopt()
        for running in self.supervisors.workers():
            if running.spec.id not in self._pairs:
                self._pairs[running.spec.id] = _Pair(
                    running.spec, "", running.started_at, has_process=True, has_container=True
                )
        if not self._is_watching:
            self._is_watching = True
            self._spawn(self._see_off_all(), "supervisors' ends")
            self._spawn(self.watch.run(self._reconcile, self._take), "docker watch")
        await self.watch.first_contact()

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        """Begin to start it; it counts as pending until its image is there.

        Raises:
            UnavailableError: Docker does not answer.
        """
        if worker.id in self._pairs:
            return
        if self.watch.trouble is not None:
            raise UnavailableError(f"start Worker {worker.id}: {self.watch.trouble}")
        pair = self._pairs[worker.id] = _Pair(worker, service.image, datetime.now(UTC))
        pair.starting = self._spawn(self._bring_up(pair, service), f"start {worker.id}")

    async def stop(self, worker: WorkerId) -> None:
        """Ask its supervisor to drain; one that waits for its image is given up."""
        pair = self._pairs.get(worker)
        if pair is None or pair.is_draining:
            return
        pair.is_draining = True
        if pair.has_process:
            await self.supervisors.stop(worker)
        elif pair.starting is not None:
            pair.starting.cancel()

    async def kill(self, worker: WorkerId) -> None:
        """End its supervisor and its container at once."""
        pair = self._pairs.get(worker)
        if pair is None:
            return
        pair.is_draining = pair.is_killed = True
        if not pair.has_process and pair.starting is not None:
            pair.starting.cancel()
            return
        await self.supervisors.kill(worker)
        self._spawn(self._remove(worker), f"remove {worker}")

    def workers(self) -> Sequence[RunningWorker]:
        """All of which anything is left."""
        supervisors = {running.spec.id: running for running in self.supervisors.workers()}
        return [self._view(pair, supervisors.get(pair.spec.id)) for pair in self._pairs.values()]

    async def exits(self) -> AsyncIterator[WorkerEnded]:
        """Each Worker's end."""
        while True:
            yield await self._ended.get()

    async def notices(self) -> AsyncIterator[WorkerNotice]:
        """Why containers ended under their Workers."""
        while True:
            yield await self._notices.get()

    def pool(self) -> Pool | None:
        """This machine, as the settings say."""
        return None

    async def tend(self, definitions: Mapping[ServiceName, Service], removed: Set[ServiceName]) -> None:
        """Fetch the images of these Services, those that should be there before their first Worker."""
        if time.monotonic() - self._tended_at >= _TEND_EVERY:
            self._tended_at = time.monotonic()
            self.images.want(self.wanted(definitions.values()))
            self.containers.keep({service.image for service in definitions.values()})

    def image_views(self) -> Sequence[Mapping[str, Any]]:
        """The images of Services, for people."""
        newsworthy = sorted(self.images.views(), key=lambda view: view.state is ImageState.PRESENT)
        return [view.as_json() for view in newsworthy[:_MAX_SHOWN]]

    async def close(self) -> None:
        """Stop watching. Workers go on; one whose container is not there yet is ended by the next scheduler."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.images.close()
        await self.supervisors.close()
        await self.watch.close()

    def _view(self, pair: _Pair, supervisor: RunningWorker | None) -> RunningWorker:
        if supervisor is not None:
            return replace(supervisor, started_at=pair.started_at)
        waits = not pair.has_process
        trouble = self.images.trouble(pair.image) if waits else None
        return RunningWorker(
            spec=pair.spec,
            started_at=pair.started_at,
            is_draining=pair.is_draining or not waits,
            is_pending=waits,
            trouble=trouble,
        )

    async def _bring_up(self, pair: _Pair, service: Service) -> None:
        try:
            await self._start(pair, service)
        except ImageError as error:
            self._give_up(pair, Cause(IMAGE_FAILED, str(error)))
        except TidemillError as error:
            self._give_up(pair, Cause("ContainerCannotRun", str(error)))
        except asyncio.CancelledError:
            if not pair.is_draining:
                raise  # we are closed
            self._give_up(pair, None)

    async def _start(self, pair: _Pair, service: Service) -> None:
        """Image first; then the container starts while the supervisor does."""
        await self.images.ensure(service.image)
        await asyncio.to_thread(make_open, self.directory_of(pair.spec.id))
        pair.started_at = datetime.now(UTC)
        await self.supervisors.start(pair.spec, service)
        pair.has_process = True
        await self.containers.run(pair.spec, service)
        pair.has_container = True

    def _give_up(self, pair: _Pair, failure: Cause | None) -> None:
        """It cannot run. Its supervisor has leased nothing yet; when it has ended, so has the Worker."""
        pair.failure = failure
        if pair.has_process:
            self._spawn(self.supervisors.kill(pair.spec.id), f"kill {pair.spec.id}")
        else:
            self._close_pair(pair, WorkerEnded(spec=pair.spec, was_draining=pair.is_draining))

    async def _see_off_all(self) -> None:
        async for ended in self.supervisors.exits():
            pair = self._pairs.get(ended.spec.id)
            if pair is not None:
                self._spawn(self._see_off(pair, ended), f"see off {ended.spec.id}")

    async def _see_off(self, pair: _Pair, ended: WorkerEnded) -> None:
        """Its supervisor has ended: leave nothing of its container."""
        if pair.starting is not None:
            await asyncio.wait({pair.starting})
        await self._remove(pair.spec.id)
        await asyncio.to_thread(_remove_directory, self.directory_of(pair.spec.id))
        self._close_pair(pair, ended)

    def _close_pair(self, pair: _Pair, ended: WorkerEnded) -> None:
        del self._pairs[pair.spec.id]
        if pair.failure is not None:
            ended = replace(ended, cause=pair.failure, was_draining=False)
        elif ended.exit_code != 0:
            ended = replace(ended, cause=ended.cause or pair.ended)
        self._ended.put_nowait(ended)

    async def _remove(self, worker: WorkerId) -> None:
        for pause in _REMOVE_AGAIN:
            try:
                await self.host.remove(worker)
                return
            except TransientError as error:  # a disk that is busy, a machine that is overloaded
                said = str(error)
            except TidemillError as error:
                log.error("container cannot be removed", worker=worker, error=str(error))
                return
            if self.watch.trouble is not None:
                break
            await asyncio.sleep(pause)
        log.warning("container not removed, it will be when Docker is connected again", worker=worker, error=said)

    async def _reconcile(self, names: Sequence[str]) -> None:
        """Docker answers (again), and these are our containers: find what happened while nobody listened."""
        theirs = self.known() | self._pairs.keys()
        for name in names:
            if WorkerId(name) not in theirs:
                log.info("container without a Worker removed", container=name)
                await self._remove(WorkerId(name))
        for pair in [pair for pair in self._pairs.values() if pair.has_container]:
            await self._look_at(pair)  # by its name: it may be younger than the list

    async def _take(self, event: ContainerEvent) -> None:
        pair = self._pairs.get(WorkerId(event.name))
        if pair is not None and (event.action == "die" or (event.action == "destroy" and pair.has_container)):
            await self._look_at(pair, event.exit_code)

    async def _look_at(self, pair: _Pair, exit_code: int | None = None) -> None:
        state = await self.host.inspect(pair.spec.id)
        if state is None or not state.is_running:
            self._note_end(pair, ending(state, exit_code))

    def _note_end(self, pair: _Pair, cause: Cause) -> None:
        if pair.ended is not None or pair.failure is not None or pair.is_killed:
            return
        if pair.spec.id not in {running.spec.id for running in self.supervisors.workers()}:
            return  # the supervisor ended first, and this is our own removal
        pair.ended = cause
        log.info("container ended", worker=pair.spec.id, service=pair.spec.service, reason=str(cause))
        self._notices.put_nowait(WorkerNotice(spec=pair.spec, cause=cause))

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("docker launcher task failed", task=task.get_name(), error=repr(error))


def make_open(directory: Path) -> None:
    """Make a worker directory that any user of the container may use; its parent lets only us in."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)


def _remove_directory(directory: Path) -> None:
    """What user code wrote until its container was gone; a user that is not root leaves what is not ours."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("files of a user container stay, they belong to its user", path=str(directory))
