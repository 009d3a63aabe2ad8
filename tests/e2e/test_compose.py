"""docker-compose.yml on a real daemon: the whole platform as its user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error

from tests.identities import intruding
from tests.scenarios import SCENARIOS, Scenario, Target
from tests.scenarios.target import fresh
from tests.testbed.docker import DockerHost
from tests.testbed.images.stack import COMPONENTS, SERVERS, Stack, build, stack
from tidemill_common.errors import TidemillError

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]
_IMAGES = (*COMPONENTS, "supervisor", "cli")
_LARGEST = 200 * 10**6
"""Bytes over the base image."""
_TRY_TO_WRITE = """
try:
    open({path!r}, "w")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture(scope="module")
def built(docker_host: DockerHost) -> DockerHost:
    """The components' images, as they are now."""
    build(*_IMAGES, docker_host=docker_host.address)
    return docker_host


@pytest.fixture(scope="module")
def servers(built: DockerHost) -> DockerHost:
    """The same with the servers' images."""
    if built.network == "none":
        pytest.skip("this machine cannot have bridges")
    build("nats", "seaweedfs", "postgresql", docker_host=built.address)
    return built


@pytest.fixture(scope="module")
def running(servers: DockerHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, once for this module."""
    with stack(tmp_path_factory.mktemp("compose"), docker_host=servers.address) as made:
        yield made


@pytest.fixture(scope="module")
def target(running: Stack) -> Target:
    """The platform as a scenario sees it."""
    return _target(running, running.read("gateway", "/run/tidemill/admin-password"))


def _target(running: Stack, password: str) -> Target:
    record = json.loads(running.read("gateway", "/var/lib/tidemill/secrets/platform.json"))
    store = record["providers"]["minio.default"]
    return Target(
        endpoint=f"http://127.0.0.1:{running.gateway_port}",
        username="oscar",
        password=password,
        s3_endpoint=f"http://127.0.0.1:{running.store_port}",
        s3_access_key=store["access_key"],
        s3_secret_key=store["secret_key"],
        isolates=False,
    )


@pytest.mark.parametrize("component", _IMAGES)
def test_an_image_is_small(built: DockerHost, component: str) -> None:
    names = (f"localhost/tidemill/{component}:test", "localhost/testbed/python:3.11")
    whole, base = (int(built.docker("image", "inspect", "-f", "{{.Size}}", name)) for name in names)
    assert 0 < whole - base < _LARGEST


@pytest.mark.parametrize("component", _IMAGES)
def test_an_image_starts_without_root_capabilities_and_a_writable_file_system(
    built: DockerHost, component: str
) -> None:
    own = f"tidemill_{component.replace('-', '_')}.settings"
    module = "tidemill.platform.compose_files" if component == "cli" else own
    code = f"import os, {module}; print(os.getuid(), os.access('/opt/tidemill', os.W_OK))"
    image = f"localhost/tidemill/{component}:test"
    options = ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "--entrypoint", "python"]
    assert built.docker(*options, image, "-c", code) == "10001 False"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(target: Target, scenario: Scenario) -> None:
    scenario(target, "compose")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_not_root_and_cannot_change_its_image(running: Stack, component: str) -> None:
    found = running.inspect(component)
    assert found["Config"]["User"] == "10001:10001"
    assert _capabilities(found["State"]["Pid"]) == 0
    for path in ("/x", "/opt/tidemill/x", "/etc/x"):
        said = running.run("exec", "-T", component, "python", "-c", _TRY_TO_WRITE.format(path=path))
        assert said.strip() == "Read-only file system"


@pytest.mark.parametrize("component", [*COMPONENTS, *SERVERS])
def test_nothing_in_the_stack_can_gain_privileges(running: Stack, component: str) -> None:
    assert running.inspect(component)["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]


async def test_a_workers_credentials_end_at_its_service(running: Stack, target: Target, tmp_path: Path) -> None:
    own, other = fresh("compose", "own"), fresh("compose", "other")
    token = target.apply(own, "while [ ! -e /tmp/go-on ]; do sleep 0.2; done", reuse=1)
    invocation = target.job(own, token)
    target.wait(lambda: target.invocation(invocation).get("phase") == "Running", "a Worker runs")
    credentials = tmp_path / "worker.creds"
    credentials.write_text(running.read("scheduler", f"/var/lib/tidemill/workers/identities/{own}.creds"))

    async with intruding(f"nats://{running.address('nats')}:4222", credentials) as worker:
        assert await worker.may_publish(f"log.v1.written.{own}.none"), "the control"
        for subject in (
            f"log.v1.written.{other}.none",
            f"invocation.v1.succeeded.{other}",
            f"live.worker.{other}.none",
        ):
            assert not await worker.may_publish(subject), subject
        assert not await worker.may_subscribe("_INBOX.>")
    target.remove(own)


async def test_nobody_reaches_the_bus_without_credentials(running: Stack) -> None:
    async def heard(_: Exception) -> None: ...

    client = Client()
    with pytest.raises(Error, match="Authorization Violation"):
        await client.connect(f"nats://{running.address('nats')}:4222", error_cb=heard, allow_reconnect=False)
    await client.close()


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_sees_its_own_credentials_alone(running: Stack, component: str) -> None:
    seen = running.run("exec", "-T", component, "find", "/run/tidemill", "-name", "*.creds").split()
    assert seen == [f"/run/tidemill/bus-{component.removeprefix('storage-')}.creds"]


def test_starting_it_again_leaves_keys_and_whoever_runs_alone(running: Stack) -> None:
    def state() -> list[object]:
        kept = [running.inspect(service)["State"]["StartedAt"] for service in (*SERVERS, *COMPONENTS)]
        return [*kept, running.run("exec", "-T", "scheduler", "stat", "-c", "%i %Y", "/run/tidemill/bus-workers.json")]

    before = state()
    running.start()
    assert state() == before


@pytest.mark.parametrize("component", [*COMPONENTS, "nats", "store"])
def test_work_goes_on_after_a_kill(running: Stack, target: Target, component: str) -> None:
    before = running.inspect(component)
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    target.wait(lambda: _came_back(running, component, before), f"{component} is healthy again")
    target.wait(lambda: _takes_objects(target), "the store knows its volumes")
    target.patiently("GET", "/v1/cluster")  # read from the bus: the gateway is connected to it again
    _scenario("a_file_becomes_a_result")(target, f"after-{component}")


def test_it_stops_in_an_orderly_way(running: Stack) -> None:
    running.run("stop")
    codes = {component: running.inspect(component)["State"]["ExitCode"] for component in COMPONENTS}
    assert codes == dict.fromkeys(COMPONENTS, 0), running.logs()


def test_what_was_stored_is_there_after_a_new_start(running: Stack, target: Target) -> None:
    running.start()
    ended = [row for row in target.patiently("GET", "/v1/accounts").json()["items"] if row["succeeded"]]
    assert ended
    _scenario("a_file_becomes_a_result")(target, "again")


def test_data_of_a_bus_that_knew_one_password_is_kept(servers: DockerHost, tmp_path: Path) -> None:
    with stack(tmp_path, docker_host=servers.address, earlier=True) as earlier:
        secrets = tmp_path / ".tidemill" / "compose" / "secrets"
        target = _target(earlier, (secrets / "admin-password").read_text())
        _scenario("a_file_becomes_a_result")(target, "earlier")
        succeeded = _succeeded(target)
        slow = fresh("earlier", "slow")
        token = target.apply(slow, "sleep 3", slots=1, max_scale=1)
        waiting = [target.job(slow, token) for _ in range(3)]
        before = {path: path.read_bytes() for path in secrets.glob("*.json")}

        earlier.upgrade()

        assert [target.ended(each)["phase"] for each in waiting] == ["Succeeded"] * 3
        assert _succeeded(target) >= succeeded + 3
        assert {path: path.read_bytes() for path in secrets.glob("*.json")} == before, "what was there is left alone"
        assert slow in earlier.run("exec", "-T", "gateway", "ls", "/var/lib/tidemill/secrets")
        _scenario("a_file_becomes_a_result")(target, "later")


def _succeeded(target: Target) -> int:
    return sum(int(row["succeeded"]) for row in target.patiently("GET", "/v1/accounts").json()["items"])


def _came_back(running: Stack, component: str, before: dict[str, Any]) -> bool:
    state = running.inspect(component)["State"]
    return state["Pid"] not in (0, before["State"]["Pid"]) and state.get("Health", {}).get("Status") == "healthy"


def _takes_objects(target: Target) -> bool:
    """A store that was started again is healthy a moment before that. Nothing is invoked for what is in this bucket."""
    with contextlib.suppress(TidemillError):
        target.put("tidemill/probe", b"x")
        return True
    return False


def _scenario(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.__name__ == name)


def _capabilities(pid: int) -> int:
    status = (Path("/proc") / str(pid) / "status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("CapEff:")]
    return int(line.split()[1], 16)
