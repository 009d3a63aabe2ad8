"""The whole platform with user code in containers: `tidemill up --launcher docker`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.embedded import Platform, running_platform
from tests.scenarios import SCENARIOS, Scenario, Target
from tests.scenarios.target import fresh
from tests.testbed.docker import BUSYBOX, SOMEBODY, DockerHost
from tests.testbed.docker.registry import registry
from tests.testbed.shellless import file_system

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, docker_host: DockerHost) -> Iterator[Platform]:
    """A platform of this module's own."""
    environment = {
        "DOCKER_HOST": docker_host.address,
        "TIDEMILL_SCHEDULER_LAUNCHER": "docker",
        "TIDEMILL_SCHEDULER_DOCKER__NETWORK": "none",
        "TIDEMILL_SCHEDULER_DOCKER__HOST": docker_host.address,
    }
    with running_platform(tmp_path_factory.mktemp("docker"), **environment) as running:
        yield running
    installation = (running.directory / "state" / "scheduler" / "docker-installation").read_text()
    label = f"label=tidemill.io/installation={installation}"
    left = still_there(docker_host, label)
    if left:
        docker_host.docker("rm", "-f", *left, check=False)
    assert not left, "the platform leaves no container"


def still_there(host: DockerHost, label: str, *, seconds: float = 10) -> list[str]:
    """Containers that are there, and are not just being removed."""
    deadline = time.monotonic() + seconds
    while (left := host.docker("ps", "-a", "-q", "--filter", label).split()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.fixture(scope="module")
def target(platform: Platform) -> Target:
    """The platform as a scenario sees it."""
    connection = platform.connection
    return Target(
        endpoint=connection["endpoint"],
        username=connection["username"],
        password=connection["password"],
        s3_endpoint=connection["s3_endpoint"],
        s3_access_key=connection["s3_access_key"],
        s3_secret_key=connection["s3_secret_key"],
        image=BUSYBOX,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(target: Target, scenario: Scenario) -> None:
    scenario(target, "docker")


LOOK = r"""
walk() {
  for found in "$1"/* "$1"/.[!.]*; do
    case $found in /proc | /sys) continue ;; esac
    if [ -L "$found" ]; then :
    elif [ -S "$found" ]; then echo "SOCK""ET $found"
    elif [ -d "$found" ]; then walk "$found"
    elif [ -f "$found" ]; then echo "FILE $found"; case $found in /bin/busybox | */seen) ;; *) cat "$found" ;; esac
    fi
  done
}
{
  env; id; ls -la /dev
  for process in /proc/[0-9]*; do
    cat "$process/environ" "$process/cmdline" "$process/mountinfo"; ls -l "$process/fd"
  done
  walk ""
} > "$TMP_OUTPUT_DIR/seen" 2> /dev/null
"""


def secrets_of(platform: Platform) -> set[bytes]:
    """What user code must never see: keys of the store and the bus, the administrator's password."""
    found = {platform.connection[name].encode() for name in ("password", "s3_access_key", "s3_secret_key")}
    for file in (platform.directory / "identities").rglob("*"):
        if file.is_file():
            found |= {word for word in re.findall(rb"[\w+/=-]{20,}", file.read_bytes()) if word.strip(b"-")}
    assert len(found) > 5
    return found


def seen_by_user_code(target: Target, **fields: Any) -> bytes:
    """Everything that a script can read in its container."""
    name = fresh("docker", "look")
    output = {"storage_provider": "minio.default", "path": f"{name}/out"}
    token = target.apply(name, LOOK, output=[output], **fields)
    row = target.ended(target.job(name, token, b"the input"))
    assert row["phase"] == "Succeeded", row
    seen = target.get(f"{name}/out/seen")
    assert b"the input" in seen, "it reads what is there"
    assert b"FILE /etc/passwd" in seen
    return seen


def test_user_code_finds_no_key_and_no_socket(platform: Platform, target: Target) -> None:
    seen = seen_by_user_code(target)

    assert {secret for secret in secrets_of(platform) if secret in seen} == set()
    assert b"SOCKET" not in seen
    assert b"docker.sock" not in seen
    assert b"TIDEMILL_SUPERVISOR" not in seen
    assert str(platform.directory / "secrets").encode() not in seen


def test_the_search_for_keys_finds_one_that_was_planted(platform: Platform, target: Target) -> None:
    planted = platform.connection["s3_secret_key"]

    seen = seen_by_user_code(target, environment={"variables": {"PLANTED": planted}})

    assert planted.encode() in seen
    assert planted.encode() in secrets_of(platform)


def test_the_images_own_user_and_variables_hold(target: Target) -> None:
    name = fresh("docker", "somebody")
    folder = {"storage_provider": "minio.default", "path": f"{name}/out"}
    script = 'id; echo "$OF_THE_IMAGE"; echo kept > "$TMP_OUTPUT_DIR/file"; cat "$INPUT_FILE_PATH"; echo x > private\n'
    token = target.apply(name, script, image=SOMEBODY, output=[folder])

    rows = [target.ended(target.job(name, token, b"read me")) for _ in range(2)]

    assert [row["phase"] for row in rows] == ["Succeeded", "Succeeded"], rows
    assert "uid=4321" in rows[1]["log_tail"]
    assert rows[1]["log_tail"].splitlines()[1:] == ["kept", "read me"]
    assert target.get(f"{name}/out/file") == b"kept\n"


@pytest.fixture(scope="module")
def shellless(docker_host: DockerHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image without a shell, which nothing is known of yet."""
    image = f"testbed/shellless-{os.urandom(4).hex()}:1"
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    archive.write_bytes(file_system(archive.parent))
    docker_host.docker("import", "-c", "USER 4321", str(archive), image)
    yield image
    docker_host.docker("rmi", "-f", image)


SHELLLESS_SCRIPT = """#!/bin/sh -e
[ "$0" != sh ]
env | grep -q ^TMP_OUTPUT_DIR=
cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/cat"
/app/reader -c 'id -u > "$TMP_OUTPUT_DIR/system"; echo "$PATH" > "$TMP_OUTPUT_DIR/path"; sleep 0'
"""


def test_an_image_without_a_shell_is_given_one(target: Target, docker_host: DockerHost, shellless: str) -> None:
    name = fresh("docker", "shellless")
    folder = {"storage_provider": "minio.default", "path": f"{name}/out"}
    token = target.apply(name, SHELLLESS_SCRIPT, image=shellless, output=[folder])

    row = target.ended(target.job(name, token, b"read me"))

    assert (row["phase"], row["attempts"]) == ("Succeeded", 1), row
    found = {file: target.get(f"{name}/out/{file}").decode() for file in ("cat", "system", "path")}
    assert (found["cat"], found["system"]) == ("read me", "4321\n")
    assert found["path"].strip().endswith("bin:/tidemill-shell")
    worker = str(row["worker"])
    writable = docker_host.docker("inspect", "-f", "{{range .Mounts}}{{.Destination}} {{.RW}};{{end}}", worker)
    assert sorted(writable.split(";"))[1:3] == ["/bin/sh false", "/tidemill-shell false"]


@pytest.mark.parametrize(
    ("line", "expected"), [("#!/app/reader", "read"), ("#!/usr/bin/env sh", "cat"), ("#!/bin/ash", "cat")]
)
def test_scripts_of_an_image_without_a_shell_run_as_they_say(
    target: Target, shellless: str, line: str, expected: str
) -> None:
    name = fresh("docker", "interpreter")
    folder = {"storage_provider": "minio.default", "path": f"{name}/out"}
    script = f"{line}\nprintf x > $TMP_OUTPUT_DIR/cat\n"
    token = target.apply(
        name, script, image=shellless, output=[folder], environment={"variables": {"PATH": "/app", "a.b": "c"}}
    )

    row = target.ended(target.job(name, token, b"x"))

    assert row["phase"] == "Succeeded", row
    assert target.list(f"{name}/out/") == [f"{name}/out/{expected}"]


def running_worker(target: Target, service: str) -> str:
    """The Worker that runs the one Invocation of a Service; its container has the same name."""

    rows: list[dict[str, Any]] = []

    def is_running() -> bool:
        rows[:] = target.invocations(service)
        return any(row["phase"] == "Running" for row in rows)

    target.wait(is_running, "it runs", show=lambda: rows)
    return next(str(row["worker"]) for row in rows if row["phase"] == "Running")


SECOND_TIME = """
[ "$TIDEMILL_ATTEMPT" = 1 ] && sleep 600
echo "$TIDEMILL_ATTEMPT" > "$TMP_OUTPUT_DIR/attempt"
"""


def interrupted(target: Target, interrupt: Callable[[str], object]) -> tuple[str, dict[str, Any]]:
    """(Worker, Invocation) of a Service whose first Attempt was interrupted."""
    name = fresh("docker", "again")
    folders = {side: [{"storage_provider": "minio.default", "path": f"{name}/{side}"}] for side in ("input", "output")}
    target.apply(name, SECOND_TIME, retry={"attempts": 3, "backoff": "0.2s"}, **folders)
    target.put(f"{name}/input/file", b"x")
    worker = running_worker(target, name)
    interrupt(worker)
    (row,) = target.all_ended(name, 1)
    assert (row["phase"], row["attempts"]) == ("Succeeded", 2), row
    assert target.list(f"{name}/output/") == [f"{name}/output/attempt"]
    assert target.get(f"{name}/output/attempt") == b"2\n"
    return worker, row


@pytest.mark.parametrize("how", [["kill"], ["rm", "-f"]], ids=lambda how: str(how[0]))
def test_a_container_that_is_killed_costs_one_attempt(target: Target, docker_host: DockerHost, how: list[str]) -> None:
    worker, row = interrupted(target, lambda worker: docker_host.docker(*how, worker))

    assert row["worker"] != worker
    target.wait(lambda: worker not in containers(docker_host), "nothing is left of it")


def test_a_supervisor_that_is_killed_takes_its_container_along(
    platform: Platform, target: Target, docker_host: DockerHost
) -> None:
    def kill(worker: str) -> None:
        (process,) = [one for one in platform.workers() if worker_of(one) == worker]
        process.kill()

    worker, _ = interrupted(target, kill)

    target.wait(lambda: worker not in containers(docker_host), "its container is removed")


def worker_of(process: psutil.Process) -> str:
    """Whose supervisor it is; empty: it has ended, as idle ones do at any time."""
    with contextlib.suppress(psutil.Error, FileNotFoundError):
        return process.environ().get("TIDEMILL_SUPERVISOR_WORKER_ID", "")
    return ""


def test_killing_the_scheduler_disturbs_nobody(platform: Platform, target: Target) -> None:
    name = fresh("docker", "calm")
    token = target.apply(name, "sleep 5; echo done\n")
    identity = target.job(name, token)
    worker = running_worker(target, name)

    platform.kill("scheduler")

    row = target.ended(identity)
    assert (row["phase"], row["attempts"], row["worker"]) == ("Succeeded", 1, worker), row
    again = target.ended(target.job(name, token))
    assert (again["phase"], again["worker"]) == ("Succeeded", worker), again


def test_a_script_that_needs_more_memory_than_its_image_leaves_the_others_alone(target: Target) -> None:
    name = fresh("docker", "mixed")
    script = (
        'read -r what please < "$INPUT_FILE_PATH"; x=xxxxxxxxxxxxxxxx; while [ "$what" = much ]; do x="$x$x"; done\n'
    )
    token = target.apply(name, script, memory="32Mi", retry={"attempts": 1})

    much, little = target.job(name, token, b"much please\n"), target.job(name, token, b"little please\n")

    assert target.ended(much)["reason"] == "out-of-memory"
    assert target.ended(little)["phase"] == "Succeeded"


def containers(host: DockerHost) -> list[str]:
    """Names of all that are there."""
    return host.docker("ps", "-a", "--format", "{{.Names}}").split()


FDL = """
functions:
  oscar:
  - local: {{name: echo, image: {image}, script: echo.sh}}
"""


def test_the_commands_a_person_types(docker_host: DockerHost, tmp_path: Path) -> None:
    directory = tmp_path / "platform"
    for name in ("echo", "shell"):
        (tmp_path / f"{name}.sh").write_text('echo "in a container: $PATH"\n')
    fdl = tmp_path / "services.yaml"

    def tidemill(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "tidemill", "--dir", str(directory), *arguments]
        environment = {**os.environ, "DOCKER_HOST": docker_host.address, "TIDEMILL_SCHEDULER_DOCKER__NETWORK": "none"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    with registry(size_bytes=1024) as shop:
        shop.go_on.set()
        try:
            tidemill("up", "--launcher", "docker", "--port", "0", "--detach")
            fdl.write_text(FDL.format(image="127.0.0.1:9/nobody/has:it"))
            assert "cannot be had: " in tidemill("apply", str(fdl), code=1)
            fdl.write_text(FDL.format(image=shop.image).replace("echo", "shell"))
            tidemill("apply", str(fdl))
            assert shop.image in docker_host.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
            assert "in a container: /bin" in tidemill("run", "shell", "-i", "x")
            assert "✓ docker" in tidemill("doctor")

            (container,) = [name for name in containers(docker_host) if name.startswith("shell-")]
            for record in ("up", "scheduler"):
                os.kill(json.loads((directory / "run" / f"{record}.json").read_text())["pid"], signal.SIGKILL)
            assert "container" in tidemill("down")
            assert container not in containers(docker_host)
        finally:
            tidemill("down")
            docker_host.docker("rmi", "-f", shop.image, check=False)


def test_without_docker_the_start_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemill", "up", "--dir", str(tmp_path / "platform"), "--launcher", "docker"]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}

    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)

    assert done.returncode == 4
    assert "apt install docker.io" in done.stderr
    assert "--launcher process" in done.stderr
