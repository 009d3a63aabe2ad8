"""The whole platform with user code in containers: `tidemill up --launcher docker`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.embedded import Platform, running_platform
from tests.scenarios import SCENARIOS, Scenario, Target
from tests.testbed.docker import BUSYBOX, DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


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
    left = docker_host.docker("ps", "-a", "-q", "--filter", label).split()
    if left:
        docker_host.docker("rm", "-f", *left)
    assert not left, "the platform leaves no container"


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
        patience=60,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(target: Target, scenario: Scenario) -> None:
    scenario(target, "docker")
