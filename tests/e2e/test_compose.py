"""docker-compose.yml on a real daemon: the whole platform as its user starts it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios import SCENARIOS, Scenario, Target
from tests.testbed.docker import DockerHost
from tests.testbed.images.stack import COMPONENTS, SERVERS, Stack, build, stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]
_IMAGES = (*COMPONENTS, "supervisor")
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
def running(built: DockerHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, once for this module."""
    if built.network == "none":
        pytest.skip("this machine cannot have bridges")
    build("nats", "seaweedfs", "postgresql", docker_host=built.address)
    with stack(tmp_path_factory.mktemp("compose"), docker_host=built.address) as made:
        yield made


@pytest.fixture(scope="module")
def target(running: Stack) -> Target:
    """The platform as a scenario sees it."""
    store = json.loads(running.secret("platform.json"))["providers"]["minio.default"]
    return Target(
        endpoint=f"http://127.0.0.1:{running.gateway_port}",
        username="oscar",
        password=running.secret("admin-password"),
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
    module = f"tidemill_{component.replace('-', '_')}"
    code = f"import os, {module}.settings; print(os.getuid(), os.access('/opt/tidemill', os.W_OK))"
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


@pytest.mark.parametrize("component", [*COMPONENTS, "nats", "store"])
def test_work_goes_on_after_a_kill(running: Stack, target: Target, component: str) -> None:
    before = running.inspect(component)
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    target.wait(lambda: _came_back(running, component, before), f"{component} is healthy again")
    _scenario("a_file_becomes_a_result")(target, f"after-{component}")


def test_it_stops_in_an_orderly_way(running: Stack) -> None:
    running.run("stop")
    codes = {component: running.inspect(component)["State"]["ExitCode"] for component in COMPONENTS}
    assert codes == dict.fromkeys(COMPONENTS, 0), running.logs()


def test_what_was_stored_is_there_after_a_new_start(running: Stack, target: Target) -> None:
    running.run("up", "--no-build", "--detach", "--wait")
    ended = [row for row in target.patiently("GET", "/v1/accounts").json()["items"] if row["succeeded"]]
    assert ended
    _scenario("a_file_becomes_a_result")(target, "again")


def _came_back(running: Stack, component: str, before: dict[str, Any]) -> bool:
    state = running.inspect(component)["State"]
    return state["Pid"] not in (0, before["State"]["Pid"]) and state["Health"]["Status"] == "healthy"


def _scenario(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.__name__ == name)


def _capabilities(pid: int) -> int:
    status = (Path("/proc") / str(pid) / "status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("CapEff:")]
    return int(line.split()[1], 16)
