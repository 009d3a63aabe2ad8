"""The docker launcher of a real scheduler, on a real Docker daemon, with stand-ins for the supervisor."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.scheduler.running import Platform, is_alive, platform, terminate, until, url_of
from tests.servers import nats_server
from tests.testbed.docker import BUSYBOX, DockerHost, docker_host
from tests.testbed.docker.registry import registry
from tidemill_common.contracts.service import Synchronous

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Platform]:
    with nats_server(tmp_path) as nats:
        async with platform(url_of(nats), tmp_path) as running:
            yield running


@pytest.fixture(autouse=True)
def settings(docker_host: DockerHost, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a scheduler with the docker launcher; its containers are removed at the end."""
    yield {
        "launcher": "docker",
        "docker__host": docker_host.address,
        "docker__network": "none",
        "docker__pull": "never",
    }
    if containers := ours(docker_host, tmp_path):
        docker_host.docker("rm", "-f", *containers, check=False)  # the scheduler may just have begun to


def ours(host: DockerHost, directory: Path) -> list[str]:
    """Containers of this test's platform."""
    installation = directory / "state" / "docker-installation"
    if not installation.exists():
        return []
    label = f"label=tidemill.io/installation={installation.read_text()}"
    return host.docker("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()


def is_running(host: DockerHost, name: str) -> bool:
    """Whether it runs; one that was listed may not be found by its name yet."""
    return host.docker("inspect", "-f", "{{.State.Running}}", name, check=False) == "true"


async def one_worker(world: Platform, host: DockerHost, service: str) -> tuple[str, int]:
    """The one Worker of a Service, with its container: name and process id of its supervisor."""

    def both() -> list[tuple[str, int]]:
        workers = world.workers(service)
        return list(workers.items()) if len(workers) == 1 and ours(host, world.directory) == list(workers) else []

    ((name, pid),) = await until(both, "one runs, with its container")
    return str(name), int(pid)


async def degraded(world: Platform, service: str) -> dict[str, Any]:
    status = await world.status(service)
    return status if "degraded" in status else {}


async def test_each_worker_has_a_container_of_its_image_which_goes_with_it(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    await world.define("warm", image=BUSYBOX, memory="64Mi", synchronous=Synchronous(min_scale=1))
    world.start(**settings)
    name, _ = await one_worker(world, docker_host, "warm")
    await until(lambda: is_running(docker_host, name), "it runs")
    directory = world.directory / "workspaces" / name

    def fact(path: str) -> str:
        return docker_host.docker("inspect", "-f", f"{{{{json .{path}}}}}", name)

    assert fact("HostConfig.Memory") == fact("HostConfig.MemorySwap") == str(64 * 1024**2)
    assert fact("HostConfig.NanoCpus") == "1000000000"
    assert fact("HostConfig.SecurityOpt") == '["no-new-privileges"]'
    assert docker_host.docker("inspect", "-f", "{{range .Mounts}}{{.Source}} {{.Destination}};{{end}}", name) == (
        f"{directory} {directory};"
    )
    assert fact("Config.Env") == '["PATH=/bin"]'
    assert directory.stat().st_mode & 0o777 == 0o777

    await world.define("warm", image=BUSYBOX, revision=2, removed=True)

    await until(lambda: not ours(docker_host, world.directory), "its container is removed")
    await until(lambda: not directory.exists(), "its directory is removed")


async def test_an_image_that_is_not_there_degrades_the_service_until_it_is(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    image = f"testbed/later-{os.urandom(4).hex()}:1"
    await world.define("later", image=image)
    await world.submit("later")
    world.start(**settings)

    status = await until(lambda: degraded(world, "later"), "it is degraded")

    assert status["degraded"].startswith("ErrImagePull: ")
    assert image in status["degraded"]
    assert await world.ready("later") == 1, "no Attempt was used up"
    docker_host.docker("tag", BUSYBOX, image)
    try:
        await until(lambda: _is_empty(world, "later"), "it runs when its image is there")
    finally:
        docker_host.docker("rmi", image)


async def test_an_image_that_cannot_be_pulled_says_so_in_dockers_words(
    world: Platform, settings: dict[str, str]
) -> None:
    await world.define("nowhere", image="127.0.0.1:9/no/image:1")
    await world.submit("nowhere")
    world.start(**{**settings, "docker__pull": "missing"})

    status = await until(lambda: degraded(world, "nowhere"), "it is degraded")

    assert "127.0.0.1:9" in status["degraded"]
    assert "refused" in status["degraded"]


async def test_a_container_that_cannot_start_says_so_in_dockers_words(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    await world.define("lost", image=BUSYBOX)
    await world.submit("lost")
    world.start(**{**settings, "docker__network": "no-such-network"})

    status = await until(lambda: degraded(world, "lost"), "it is degraded")

    assert status["degraded"].startswith("ContainerCannotRun: ")
    assert "no-such-network" in status["degraded"]
    assert not world.workers("lost")


async def test_a_scheduler_that_was_killed_is_followed_by_one_that_adopts_and_tidies(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    settings = {**settings, "stop_workers_on_exit": "true"}
    await world.define("hold", image=BUSYBOX, total_cpu="1")
    await world.submit("hold", 2)
    first = world.start(behaviour="hold", **settings)
    name, pid = await one_worker(world, docker_host, "hold")
    first.kill()
    first.wait()
    label = f"tidemill.io/installation={(world.directory / 'state' / 'docker-installation').read_text()}"
    own = ("--name", f"orphan-{name}", "--label", label, "--network", "none")
    docker_host.docker("run", "-d", *own, BUSYBOX, "sleep", "600")

    second = world.start(behaviour="hold", **settings)
    await until(lambda: ours(docker_host, world.directory) == [name], "what belongs to no Worker is removed")
    assert world.workers("hold") == {name: pid}

    world.release()
    await until(lambda: _is_empty(world, "hold"), "its work is finished")
    assert terminate(second) == 0
    assert not is_alive(pid)
    assert not ours(docker_host, world.directory)


async def test_what_ended_while_no_scheduler_ran_is_removed(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    await world.define("gone", image=BUSYBOX)
    await world.submit("gone")
    first = world.start(behaviour="hold", **settings)
    name, pid = await one_worker(world, docker_host, "gone")
    first.kill()
    first.wait()
    os.kill(pid, signal.SIGKILL)
    await world.define("gone", image=BUSYBOX, revision=2, removed=True)

    world.start(**settings)

    await until(lambda: name not in ours(docker_host, world.directory), "its container is removed")


@pytest.mark.parametrize("how", [["kill"], ["rm", "-f"]])
async def test_a_worker_is_told_why_its_container_ended(
    world: Platform, docker_host: DockerHost, settings: dict[str, str], how: list[str]
) -> None:
    await world.define("told", image=BUSYBOX)
    await world.submit("told")
    world.start(behaviour="hold", **settings)
    name, _ = await one_worker(world, docker_host, "told")
    await until(lambda: is_running(docker_host, name), "it runs")

    async with world.bus.live.subscribe(f"live.cause.told.{name}") as messages:
        docker_host.docker(*how, name)
        async with asyncio.timeout(60):
            _, body = await anext(aiter(messages))

    told = json.loads(body)
    assert told["reason"] in ("ContainerEnded", "ContainerRemoved")
    assert told["message"] == "the user container was killed by signal 9"


async def test_a_daemon_that_does_not_answer_is_tried_again(world: Platform, settings: dict[str, str]) -> None:
    await world.define("away", image=BUSYBOX)
    await world.submit("away")
    world.start(**{**settings, "docker__host": f"unix://{world.directory}/no.sock"})

    status = await until(lambda: degraded(world, "away"), "it is degraded")

    assert "Cannot connect to Docker Engine" in status["degraded"]
    assert "next_try" in status


async def _is_empty(world: Platform, service: str) -> bool:
    return await world.ready(service) == 0


async def test_workers_go_on_while_docker_restarts(
    world: Platform, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with docker_host(tmp_path_factory.mktemp("own"), private=True, options="--live-restore") as host:
        await world.define("hold", image=BUSYBOX, cpu="0.5")
        await world.submit("hold")
        world.start(behaviour="hold", **{**settings, "docker__host": host.address})
        name, pid = await one_worker(world, host, "hold")
        inside = host.docker("inspect", "-f", "{{.State.Pid}}", name)

        daemon = host.pid()
        os.kill(daemon, signal.SIGTERM)
        await asyncio.to_thread(wait_until_gone, daemon)
        await world.define("meanwhile", image=BUSYBOX, cpu="0.5")
        await world.submit("meanwhile")
        await until(lambda: degraded(world, "meanwhile"), "a start is refused and tried again")
        assert world.workers("hold") == {name: pid}
        await asyncio.to_thread(host.start)

        await until(lambda: world.workers("meanwhile"), "it starts when Docker is back")
        assert world.workers("hold") == {name: pid}
        assert host.docker("inspect", "-f", "{{.State.Pid}}", name) == inside
        world.release()
        await until(lambda: _is_empty(world, "hold"), "its work is finished")
        await world.define("hold", image=BUSYBOX, revision=2, removed=True)
        await world.define("meanwhile", image=BUSYBOX, revision=2, removed=True)
        await until(lambda: not ours(host, world.directory), "all containers are removed")


def wait_until_gone(pid: int) -> None:
    while is_alive(pid):
        time.sleep(0.05)


async def test_a_pull_shows_how_far_it_is_before_any_work_comes(
    world: Platform, docker_host: DockerHost, settings: dict[str, str]
) -> None:
    with registry() as shop:
        await world.define("new", image=shop.image)
        world.start(**{**settings, "docker__pull": "missing"})
        try:
            pulling = await until(lambda: image_view(world, "pulling", at_least=1), "it is being pulled")
            assert pulling["image"] == shop.image
            assert pulling["total_bytes"] > 4 * 1024**2 > pulling["done_bytes"]
            await world.submit("new")
            await until(lambda: waiting(world, "new"), "its first Worker waits, and says for what")
            shop.go_on.set()
            await until(lambda: image_view(world, "present"), "it is there")
            await until(lambda: _is_empty(world, "new"), "its work is done")
        finally:
            shop.go_on.set()
            docker_host.docker("rmi", "-f", shop.image, check=False)


@pytest.mark.parametrize("password", ["right", "wrong"])
async def test_a_private_image_needs_the_users_credentials(
    world: Platform, docker_host: DockerHost, settings: dict[str, str], password: str
) -> None:
    with registry(user="ada:right", size_bytes=1024) as shop:
        shop.go_on.set()
        auth = base64.b64encode(f"ada:{password}".encode()).decode()
        config = world.directory / "config.json"
        config.write_text(json.dumps({"auths": {f"127.0.0.1:{shop.port}": {"auth": auth}}}))
        await world.define("private", image=shop.image)
        await world.submit("private")
        world.start(**{**settings, "docker__pull": "missing", "docker__config_file": str(config)})
        try:
            if password == "right":
                await until(lambda: _is_empty(world, "private"), "its work is done")
            else:
                status = await until(lambda: degraded(world, "private"), "it is degraded")
                assert status["degraded"].startswith("ErrImagePull: ")
                assert "no basic auth credentials" in status["degraded"] or "unauthorized" in status["degraded"]
        finally:
            docker_host.docker("rmi", "-f", shop.image, check=False)


async def image_view(world: Platform, state: str, *, at_least: int = 0) -> dict[str, Any] | None:
    """The one image that the platform tells of, once it is in this state."""
    found = await world.bus.registers.get("scheduler.status")
    rows = [] if found is None else json.loads(found.value).get("images", [])
    return next((row for row in rows if row["state"] == state and row["done_bytes"] >= at_least), None)


async def waiting(world: Platform, service: str) -> bool:
    return str((await world.status(service)).get("waiting", "")).startswith("Pulling: ")
