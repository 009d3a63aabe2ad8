"""The stack of docker-compose.yml, brought up from images that were built here: the file itself is used unchanged.

`EARLIER` holds it as it was while the bus knew one password, with the script that had to be run before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.servers import missing
from tidemill.platform.servers import free_port

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
CACHE: Final = ROOT / ".cache" / "images"
EARLIER: Final = HERE.parent / "compose-passwords"
COMPONENTS: Final = ("gateway", "storage-bridge", "scheduler")
SERVERS: Final = ("nats", "store", "postgresql")


def build(*names: str, docker_host: str) -> None:
    """Make test images in a daemon; all when none is named.

    What has not changed comes from the daemon's layers.
    """
    command = ["sh", str(HERE / "build.sh"), *names]
    environment = {**os.environ, "DOCKER_HOST": docker_host, "CACHE": str(CACHE)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"{names}: {done.stdout[-4000:]}{done.stderr[-4000:]}"


def compose_command() -> list[str]:
    """Docker Compose v2, built when there is none."""
    done = subprocess.run(["sh", str(HERE / "compose.sh"), str(CACHE)], capture_output=True, check=False, text=True)
    if done.returncode != 0:
        missing(f"docker compose ({done.stderr[-500:]})")
    return done.stdout.split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A project of its own in a directory that holds the file."""

    directory: Path
    compose: list[str]
    environment: dict[str, str]
    gateway_port: int
    store_port: int

    def run(self, *arguments: str, check: bool = True) -> str:
        """`docker compose …`, and what it prints."""
        command = [*self.compose, *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, check=False, text=True
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr[-4000:]}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The last lines of every container."""
        command = [*self.compose, "logs", "--no-color", "--tail", "40"]
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, check=False, text=True
        ).stdout[-8000:]

    def inspect(self, service: str) -> dict[str, Any]:
        """What the daemon says of a service's container."""
        container = self.run("ps", "--all", "--quiet", service).strip()
        command = ["docker", "inspect", container]
        found = subprocess.run(command, env=self.environment, capture_output=True, check=True, text=True).stdout
        return dict(json.loads(found)[0])

    def read(self, service: str, path: str) -> str:
        """A file that a running container sees."""
        return self.run("exec", "-T", service, "cat", path)

    def address(self, service: str) -> str:
        """Where this machine reaches a container."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def start(self) -> None:
        """All of it, as the file is now; healthy."""
        self.run("up", "--no-build", "--detach", "--wait")

    def upgrade(self) -> None:
        """Put the newest file in the place of an earlier one, and start it."""
        shutil.copy(ROOT / "docker-compose.yml", self.directory)
        self.start()


@contextlib.contextmanager
def stack(directory: Path, *, docker_host: str, earlier: bool = False) -> Iterator[Stack]:
    """The whole stack, healthy; containers and volumes are removed at the end.

    Args:
        earlier: As it was while the bus knew one password.
    """
    ports = free_port(), free_port(), free_port()
    made = Stack(
        directory=directory,
        compose=compose_command(),
        environment=_environment(directory, docker_host, ports),
        gateway_port=ports[0],
        store_port=ports[1],
    )
    if earlier:
        shutil.copytree(EARLIER, directory, dirs_exist_ok=True)
        subprocess.run(["sh", directory / "deploy" / "compose" / "secrets.sh"], check=True, stdout=subprocess.DEVNULL)
    else:
        shutil.copy(ROOT / "docker-compose.yml", directory)
    try:
        made.start()
        yield made
    finally:
        made.run("down", "--volumes", "--timeout", "10", check=False)


def _environment(directory: Path, docker_host: str, ports: tuple[int, int, int]) -> dict[str, str]:
    images = {f"{name.upper()}_IMAGE": f"localhost/testbed/{name}:test" for name in ("nats", "seaweedfs", "postgresql")}
    own = {
        "DOCKER_HOST": docker_host,
        "COMPOSE_PROJECT_NAME": f"tidemill-{os.getpid()}-{directory.name}".lower(),
        "TIDEMILL_IMAGES": "localhost/tidemill",
        "TIDEMILL_TAG": "test",
        "GATEWAY_PORT": str(ports[0]),
        "STORE_PORT": str(ports[1]),
        "EVENTS_PORT": str(ports[2]),
    }
    return {**os.environ, **images, **own}
