"""Fixtures of all tests: one server of each kind per module, in a directory of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers import Running, nats_server, postgresql_server, seaweed_server
from tests.testbed.docker import DockerHost, docker_host

settings.register_profile("tidemill", settings.default, deadline=None)  # machines are shared: no test is timed
settings.load_profile("tidemill")


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A nats-server of this module's own."""
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A SeaweedFS of this module's own."""
    with seaweed_server(tmp_path_factory.mktemp("weed")) as running:
        yield running


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL of this module's own."""
    with postgresql_server(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(scope="session", name="docker_host")
def _docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerHost]:
    """A Docker daemon: that of $DOCKER_HOST, or a private one."""
    with docker_host(tmp_path_factory.mktemp("docker")) as host:
        yield host


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A directory of this test's own."""
    return tmp_path


@pytest.fixture(scope="session")
def old_client() -> Path:
    """A folder with oscar-python 1.3.2 beside the newest one in the environment; installed once."""
    here = Path(__file__).parent
    folder = here.parent / ".cache" / "oscar-python-1.3.2"
    if not (folder / "oscar_python").is_dir():
        requirements = str(here / "oscar-python-1.3.2.txt")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "--target", str(folder)]
        subprocess.run([*pip, "-r", requirements], check=True)
    return folder
