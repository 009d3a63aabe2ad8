"""What Docker is told of a user container, and how its end is put into words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_common.runner import runner_command
from tidemill_scheduler.launchers.docker.containers import container_config, ending
from tidemill_scheduler.launchers.docker.engine import ContainerState, moment
from tidemill_scheduler.launchers.docker.settings import DockerSettings
from tidemill_scheduler.ports import WorkerSpec

WORKER = WorkerSpec(
    id=WorkerId("blur-0a1b2c3d"),
    service=ServiceName("blur"),
    owner="ada",
    pool="local",
    revision=3,
    slots=1,
    cpu_millicores=500,
    memory_bytes=256 * 1024**2,
)
DIRECTORY = Path("/var/lib/tidemill/workspaces/blur-0a1b2c3d")


def config(settings: DockerSettings | None = None, **fields: Any) -> dict[str, Any]:
    service = Service(name=ServiceName("blur"), image="acme/blur:1", script="exit 0", **fields)
    return dict(
        container_config(
            WORKER, service, DIRECTORY, installation="here", settings=settings if settings else DockerSettings()
        )
    )


def test_the_runner_takes_the_place_of_the_images_own_program() -> None:
    found = config()

    assert found["Image"] == "acme/blur:1"
    assert found["Entrypoint"] == runner_command(str(DIRECTORY))
    assert found["Cmd"] == []
    assert found["HostConfig"]["Init"] is False


def test_a_container_gets_nothing_of_the_platform() -> None:
    found = config(variables={"A": "1"}, secret_names=("KEY",))

    assert "Env" not in found
    assert found["HostConfig"]["Mounts"] == [{"Type": "bind", "Source": str(DIRECTORY), "Target": str(DIRECTORY)}]
    assert found["HostConfig"]["Privileged"] is False
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert {"NET_RAW", "MKNOD"} <= set(found["HostConfig"]["CapDrop"])


def test_an_image_without_a_shell_is_given_one_that_it_cannot_change() -> None:
    found = container_config(
        WORKER,
        Service(name=ServiceName("blur"), image="acme/blur:1", script="exit 0"),
        DIRECTORY,
        installation="here",
        settings=DockerSettings(read_only=True),
        shell=Path("/var/lib/tidemill/shell/1"),
    )

    assert found["Entrypoint"] == runner_command(str(DIRECTORY), applets="/tidemill-shell")
    assert found["HostConfig"]["Mounts"][1:] == [
        {"Type": "bind", "Source": "/var/lib/tidemill/shell/1", "Target": "/tidemill-shell", "ReadOnly": True},
        {"Type": "bind", "Source": "/var/lib/tidemill/shell/1/busybox", "Target": "/bin/sh", "ReadOnly": True},
    ]


def test_limits_are_those_that_the_worker_was_planned_with() -> None:
    host = config()["HostConfig"]

    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 268_435_456, 268_435_456)
    assert host["PidsLimit"] == 4096


def test_a_services_own_labels_do_not_replace_ours() -> None:
    labels = config(labels={"team": "x", "tidemill.io/worker": "forged", "tidemill.io/installation": "forged"})[
        "Labels"
    ]

    assert labels == {
        "team": "x",
        "app.kubernetes.io/managed-by": "tidemill",
        "app.kubernetes.io/component": "worker",
        "tidemill.io/service": "blur",
        "tidemill.io/worker": "blur-0a1b2c3d",
        "tidemill.io/installation": "here",
    }


def test_gpus_are_asked_for_only_when_the_service_does() -> None:
    assert "DeviceRequests" not in config()["HostConfig"]
    assert config(enable_gpu=True)["HostConfig"]["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]


def test_an_operator_may_choose_network_capabilities_and_more() -> None:
    settings = DockerSettings(
        network="lan", cap_drop=("ALL",), pids_limit=None, read_only=True, runtime="runsc", storage_limit=True
    )
    host = config(settings, ephemeral_storage_request="2Gi")["HostConfig"]

    assert (host["NetworkMode"], host["CapDrop"], host["PidsLimit"]) == ("lan", ["ALL"], -1)
    assert (host["ReadonlyRootfs"], host["Runtime"]) == (True, "runsc")
    assert host["StorageOpt"] == {"size": str(2 * 1024**3)}
    assert "/tmp" in host["Tmpfs"]


def state(**facts: Any) -> ContainerState:
    return ContainerState(name="x", labels={}, **{"is_running": False, "exit_code": 0, **facts})


@pytest.mark.parametrize(
    ("found", "exit_code", "said"),
    [
        (state(exit_code=137, was_out_of_memory=True), None, "OOMKilled: the container needed more memory"),
        (state(exit_code=3, was_out_of_memory=True), None, "ContainerEnded: the user container ended with exit code 3"),
        (state(exit_code=143), None, "ContainerEnded: the user container was killed by signal 15"),
        (state(exit_code=127, error="no /bin/sh"), None, "ContainerCannotRun: no /bin/sh"),
        (None, 137, "ContainerRemoved: the user container was killed by signal 9"),
        (None, None, "ContainerRemoved: nobody can say how"),
    ],
)
def test_the_end_of_a_container_has_its_cause(found: ContainerState | None, exit_code: int | None, said: str) -> None:
    assert str(ending(found, exit_code)).startswith(said)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T06:38:00.865117585Z", "1795243080"),
        ("2026-11-21T07:38:00.865117585+01:00", "1795243080"),
        ("2026-11-21T06:38:00Z", "1795243080"),
    ],
)
def test_the_engines_time_is_read_with_its_zone(text: str, seconds: str) -> None:
    assert moment({"SystemTime": text}) == seconds
