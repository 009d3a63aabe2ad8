"""A Docker daemon for tests: that of $DOCKER_HOST, or a private one that is ended by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.servers import missing

HERE: Final = Path(__file__).parent
BUSYBOX: Final = "testbed/busybox:1"
"""`sh`, `cat`, `ls`, `echo`, `sleep`, `env`, `id`, `wc`, `sha256sum`, `nc`, `httpd`; root."""
SOMEBODY: Final = "testbed/somebody:1"
"""The same with a user that is not root, an entry point and `OF_THE_IMAGE=kept`."""
_BRIDGE: Final = Path("/sys/class/net/docker0")
_WITHOUT_NETFILTER: Final = "--iptables=false --bridge=none"


@dataclass
class DockerHost:
    """A daemon that answers, with the tests' images."""

    address: str
    network: str = "bridge"
    """`none`: this machine cannot have bridges."""
    state: Path | None = None
    """Of a private daemon, which may be killed and started again; None: it is somebody else's."""
    options: str = field(default="", repr=False)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run the docker command, and return what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self._environment(), capture_output=True, check=False, text=True
        )
        assert done.returncode == 0 or not check, f"docker {arguments}: {done.stderr}"
        return done.stdout.strip()

    def pid(self) -> int:
        """Of a private daemon."""
        assert self.state is not None
        return int((self.state / "dockerd.pid").read_text())

    def start(self) -> None:
        """Start a private daemon on its old data, and wait until it answers."""
        assert self.state is not None
        command = ["sh", str(HERE / "up.sh"), str(self.state)]
        done = subprocess.run(command, env=self._environment(), capture_output=True, check=False, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)

    def stop(self) -> None:
        """End a private daemon with its containers."""
        subprocess.run(["sh", str(HERE / "down.sh"), str(self.state)], check=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.address, "DOCKERD_OPTS": self.options}


@contextlib.contextmanager
def docker_host(directory: Path, *, private: bool = False, options: str = "") -> Iterator[DockerHost]:
    """The daemon at $DOCKER_HOST; without that, or when it must be `private`, one of the test's own."""
    if shutil.which("docker") is None or shutil.which("busybox") is None:
        missing("docker with busybox-static")
    if not private and (given := os.environ.get("DOCKER_HOST")):
        subprocess.run(["sh", str(HERE / "images.sh")], check=True)
        yield DockerHost(given)
        return
    if shutil.which("dockerd") is None or os.getuid() != 0:
        missing("dockerd, or the right to start it,")
    host = _started(directory, options)
    try:
        yield host
    finally:
        host.stop()


def _started(directory: Path, options: str) -> DockerHost:
    host = DockerHost(f"unix://{directory / 'docker.sock'}", state=directory, options=options)
    try:
        host.start()
    except RuntimeError:
        if _BRIDGE.exists():
            raise  # a daemon that is told to have no bridge removes that of another
        host.options, host.network = f"{options} {_WITHOUT_NETFILTER}", "none"
        host.start()
    return host
