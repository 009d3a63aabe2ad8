"""A Worker is a supervisor and a container: one does not outlive the other, whatever order things happen in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.errors import InvalidInputError, TidemillError, UnavailableError
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.launchers.docker.engine import ContainerEvent, ContainerState, ImageError
from tidemill_scheduler.launchers.docker.images import Images
from tidemill_scheduler.launchers.docker.launcher import DockerLauncher
from tidemill_scheduler.launchers.docker.user_containers import Shell, UserContainers
from tidemill_scheduler.launchers.docker.watching import Watch
from tidemill_scheduler.ports import RunningWorker, WorkerEnded, WorkerNotice, WorkerSpec

SAMPLES = Path(__file__).parent / "samples"
NO_SHELL = (SAMPLES / "docker-no-shell.txt").read_text()
SERVICE = Service(name=ServiceName("blur"), image="blur:1", script="exit 0")


def spec(number: int = 1) -> WorkerSpec:
    return WorkerSpec(
        id=WorkerId(f"blur-{number}"),
        service=SERVICE.name,
        owner="ada",
        pool="local",
        revision=1,
        slots=1,
        cpu_millicores=100,
        memory_bytes=1024,
    )


class Supervisors:
    """Stands for the process launcher."""

    def __init__(self) -> None:
        self.running: dict[WorkerId, RunningWorker] = {}
        self.stopped: list[WorkerId] = []
        self.ends: asyncio.Queue[WorkerEnded] = asyncio.Queue()

    async def adopt(self) -> None: ...

    async def start(self, worker: WorkerSpec, service: Service) -> None:
        self.running[worker.id] = RunningWorker(spec=worker, started_at=datetime.now(UTC))

    async def stop(self, worker: WorkerId) -> None:
        self.stopped.append(worker)

    async def kill(self, worker: WorkerId) -> None:
        if worker in self.running:
            self.end(worker, was_draining=True, exit_code=None, signal=9)

    def end(self, worker: WorkerId, **facts: Any) -> None:
        ended = self.running.pop(worker)
        self.ends.put_nowait(WorkerEnded(spec=ended.spec, **{"was_draining": False, "exit_code": 0, **facts}))

    def workers(self) -> Sequence[RunningWorker]:
        return list(self.running.values())

    async def exits(self) -> AsyncIterator[WorkerEnded]:
        while True:
            yield await self.ends.get()

    async def notices(self) -> AsyncIterator[WorkerNotice]:
        await asyncio.Event().wait()
        yield cast(WorkerNotice, None)

    def pool(self) -> Pool | None:
        return None

    async def close(self) -> None: ...


class Docker:
    """Stands for the Engine: containers, images and events."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerState] = {}
        self.removed: list[str] = []
        self.busy: list[TidemillError] = []
        self.refusal: TidemillError | None = None
        self.shell: Path | TidemillError | None = None
        """What an image without one is given; None: the image has one."""
        self.tried: list[Path | None] = []
        self.image: TidemillError | None = None
        self.has_image = asyncio.Event()
        self.has_image.set()
        self.trouble: str | None = None

    async def run(self, name: str, config: Mapping[str, Any]) -> None:
        self.tried.append(config["shell"])
        if self.refusal is not None:
            raise self.refusal
        if self.shell is not None and config["shell"] is None:
            raise InvalidInputError(NO_SHELL)
        self.containers[name] = ContainerState(name=name, labels={}, is_running=True)

    async def remove(self, name: str) -> None:
        if self.busy:
            raise self.busy.pop()
        self.removed.append(name)
        self.containers.pop(name, None)

    async def inspect(self, name: str) -> ContainerState | None:
        return self.containers.get(name)

    async def directory(self) -> Path:
        if isinstance(self.shell, TidemillError):
            raise self.shell
        assert self.shell is not None
        return self.shell

    async def ensure(self, image: str) -> None:
        await self.has_image.wait()
        if self.image is not None:
            raise self.image

    def trouble_of(self, image: str) -> None:
        return None


class Fixed:
    """Stands for the images."""

    def __init__(self, docker: Docker) -> None:
        self.ensure = docker.ensure
        self.trouble = docker.trouble_of

    async def close(self) -> None: ...


class Stream:
    """Stands for the watch."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self.take: Callable[[ContainerEvent], Awaitable[None]] | None = None
        self.reconcile: Callable[[Sequence[str]], Awaitable[None]] | None = None
        self._contact = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        return self._docker.trouble

    async def first_contact(self) -> None:
        await self._contact.wait()

    async def run(
        self,
        reconcile: Callable[[Sequence[str]], Awaitable[None]],
        take: Callable[[ContainerEvent], Awaitable[None]],
    ) -> None:
        self.reconcile, self.take = reconcile, take
        await reconcile(list(self._docker.containers))
        self._contact.set()
        await asyncio.Event().wait()

    async def close(self) -> None: ...


class World:
    """A launcher with all that it touches."""

    def __init__(self, directory: Path) -> None:
        self.supervisors, self.docker = Supervisors(), Docker()
        self.stream = Stream(self.docker)
        self.known: set[WorkerId] = set()
        self.launcher = DockerLauncher(
            supervisors=self.supervisors,
            host=self.docker,
            images=cast(Images, Fixed(self.docker)),
            watch=cast(Watch, self.stream),
            containers=UserContainers(
                self.docker,
                lambda worker, service, shell: {"Image": service.image, "shell": shell},
                cast(Shell, self.docker),
            ),
            directory_of=lambda worker: directory / worker,
            wanted=lambda services: (),
            known=lambda: frozenset(self.known),
        )
        self.exits = self.launcher.exits()
        self.notices = self.launcher.notices()

    async def ended(self) -> WorkerEnded:
        async with asyncio.timeout(30):
            return await anext(self.exits)

    async def noticed(self) -> WorkerNotice:
        async with asyncio.timeout(30):
            return await anext(self.notices)

    async def start(self, number: int = 1) -> WorkerId:
        """Start one, and wait until it has both."""
        await self.launcher.start(spec(number), SERVICE)
        await self.until(lambda: spec(number).id in self.docker.containers)
        return spec(number).id

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)

    async def dies(self, worker: WorkerId, exit_code: int, *, out_of_memory: bool = False) -> None:
        self.docker.containers[worker] = ContainerState(
            name=worker, labels={}, is_running=False, exit_code=exit_code, was_out_of_memory=out_of_memory
        )
        assert self.stream.take is not None
        await self.stream.take(ContainerEvent(worker, "die", exit_code))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "workspaces")
    await world.launcher.adopt()
    yield world
    await world.launcher.close()


async def test_a_supervisor_that_ends_takes_its_container_along(world: World, tmp_path: Path) -> None:
    worker = await world.start()
    assert (tmp_path / "workspaces" / worker).stat().st_mode & 0o777 == 0o777

    world.supervisors.end(worker)

    ended = await world.ended()
    assert (ended.spec.id, ended.exit_code, ended.cause) == (worker, 0, None)
    assert world.docker.containers == {}
    assert world.launcher.workers() == []
    assert not (tmp_path / "workspaces" / worker).exists()


async def test_starting_twice_is_starting_once(world: World) -> None:
    worker = await world.start()
    await world.launcher.start(spec(), SERVICE)

    assert [running.spec.id for running in world.launcher.workers()] == [worker]


async def test_a_worker_is_pending_until_its_image_is_there(world: World) -> None:
    world.docker.has_image.clear()
    await world.launcher.start(spec(), SERVICE)
    (running,) = world.launcher.workers()
    assert running.is_pending
    assert world.supervisors.running == {}

    world.docker.has_image.set()

    await world.until(lambda: world.docker.containers)
    assert not world.launcher.workers()[0].is_pending


async def test_one_that_waits_for_its_image_can_be_stopped(world: World) -> None:
    world.docker.has_image.clear()
    await world.launcher.start(spec(), SERVICE)
    await asyncio.sleep(0)

    await world.launcher.stop(spec().id)

    ended = await world.ended()
    assert ended.was_draining
    assert world.launcher.workers() == []
    assert world.supervisors.running == {}


async def test_an_image_that_cannot_be_had_ends_the_worker_before_a_supervisor_starts(world: World) -> None:
    world.docker.image = ImageError("pull access denied")

    await world.launcher.start(spec(), SERVICE)

    ended = await world.ended()
    assert str(ended.cause) == "ErrImagePull: pull access denied"
    assert not ended.was_draining
    assert world.supervisors.running == {}


async def test_a_container_that_cannot_be_made_ends_its_supervisor_and_says_why(world: World) -> None:
    world.docker.refusal = InvalidInputError("no such network")

    await world.launcher.start(spec(), SERVICE)

    ended = await world.ended()
    assert str(ended.cause) == "ContainerCannotRun: no such network"
    assert not ended.was_draining, "it counts as a failure, though the launcher killed it"
    assert world.launcher.workers() == []


async def test_nothing_is_started_while_docker_is_away(world: World) -> None:
    world.docker.trouble = "connection refused"

    with pytest.raises(UnavailableError, match="connection refused"):
        await world.launcher.start(spec(), SERVICE)

    assert world.launcher.workers() == []


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "reason"), [(137, True, "OOMKilled"), (137, False, "ContainerEnded")]
)
async def test_a_worker_is_told_once_why_its_container_ended(
    world: World, exit_code: int, out_of_memory: bool, reason: str
) -> None:
    worker = await world.start()
    await world.dies(worker, exit_code, out_of_memory=out_of_memory)
    assert world.stream.take is not None
    await world.stream.take(ContainerEvent(worker, "destroy"))

    notice = await world.noticed()

    assert (notice.spec.id, notice.cause.reason) == (worker, reason)
    world.supervisors.end(worker, exit_code=1)
    assert (await world.ended()).cause == notice.cause
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(world.notices)


async def test_a_worker_that_was_told_and_ended_in_order_did_not_fail(world: World) -> None:
    worker = await world.start()
    await world.dies(worker, 137)

    world.supervisors.end(worker, exit_code=0)

    assert (await world.ended()).cause is None


async def test_a_container_that_cannot_be_removed_now_is_removed_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_scheduler.launchers.docker.launcher._REMOVE_AGAIN", (0, 0, 0))
    worker = await world.start()
    world.docker.busy = [UnavailableError("device is busy"), UnavailableError("device is busy")]

    world.supervisors.end(worker)

    await world.ended()
    assert world.docker.containers == {}


async def test_a_worker_ends_also_when_docker_is_away(world: World) -> None:
    worker = await world.start()
    world.docker.busy, world.docker.trouble = [UnavailableError("away")], "away"

    world.supervisors.end(worker)

    assert (await world.ended()).spec.id == worker
    assert world.launcher.workers() == []
    world.docker.trouble = None
    assert world.stream.reconcile is not None
    await world.stream.reconcile(list(world.docker.containers))
    assert world.docker.containers == {}, "what was left is removed when it answers again"


async def test_killing_ends_both_at_once_and_tells_nobody(world: World) -> None:
    worker = await world.start()

    await world.launcher.kill(worker)
    assert world.stream.take is not None
    await world.stream.take(ContainerEvent(worker, "die", 137))

    assert (await world.ended()).was_draining
    assert world.docker.containers == {}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(world.notices)


async def test_stopping_lets_the_supervisor_drain(world: World) -> None:
    worker = await world.start()

    await world.launcher.stop(worker)

    assert world.supervisors.stopped == [worker]
    assert worker in world.docker.containers


async def test_after_a_lost_connection_all_is_looked_at_once(world: World) -> None:
    gone, ended, fine = [await world.start(number) for number in (1, 2, 3)]
    del world.docker.containers[gone]
    world.docker.containers[ended] = ContainerState(name=ended, labels={}, is_running=False, exit_code=2)
    world.docker.containers["orphan"] = world.docker.containers["theirs"] = world.docker.containers[fine]
    world.known = {WorkerId("theirs")}

    assert world.stream.reconcile is not None
    await world.stream.reconcile(list(world.docker.containers))

    told = {(notice := await world.noticed()).spec.id: notice.cause.reason for _ in range(2)}
    assert told == {gone: "ContainerRemoved", ended: "ContainerEnded"}
    assert world.docker.removed == ["orphan"], "what another scheduler process just started is left alone"


async def test_a_container_that_is_younger_than_the_list_has_not_ended(world: World) -> None:
    older = await world.start(1)
    names = list(world.docker.containers)
    await world.start(2)
    del world.docker.containers[older]

    assert world.stream.reconcile is not None
    await world.stream.reconcile(names)

    assert (await world.noticed()).spec.id == older
    assert world.launcher._notices.empty()


async def test_workers_of_an_earlier_scheduler_are_taken_over(tmp_path: Path) -> None:
    world = World(tmp_path / "workspaces")
    running = RunningWorker(spec=spec(), started_at=datetime.now(UTC), is_adopted=True)
    world.supervisors.running[spec().id] = running
    world.known = {spec().id}
    for name in (spec().id, "orphan"):
        world.docker.containers[name] = ContainerState(name=name, labels={}, is_running=True)

    await world.launcher.adopt()

    assert [found.spec.id for found in world.launcher.workers()] == [spec().id]
    assert world.docker.removed == ["orphan"]
    world.supervisors.end(spec().id)
    assert (await world.ended()).spec.id == spec().id
    assert world.docker.containers == {}
    await world.launcher.close()


async def test_an_image_without_a_shell_is_given_one_and_known_from_then_on(world: World, tmp_path: Path) -> None:
    world.docker.shell = tmp_path
    await world.start(1)
    await world.start(2)
    assert world.docker.tried == [None, tmp_path, tmp_path]
    assert {running.spec.id for running in world.launcher.workers()} == {"blur-1", "blur-2"}


async def test_what_is_known_of_an_image_goes_with_its_last_service(world: World, tmp_path: Path) -> None:
    world.docker.shell = tmp_path
    await world.start(1)
    world.launcher.containers.keep(set())
    await world.start(2)
    assert world.docker.tried == [None, tmp_path, None, tmp_path]


async def test_without_a_shell_to_bring_the_worker_says_so(world: World) -> None:
    world.docker.shell = InvalidInputError("install busybox-static")
    await world.launcher.start(spec(), SERVICE)
    ended = await world.ended()
    assert str(ended.cause) == "ContainerCannotRun: install busybox-static"
    assert world.docker.tried == [None]
