"""Real servers for tests, started on free loopback ports and ended with the test, also when it fails."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidemill.platform.servers import NatsServer, SeaweedServer, free_port, free_ports


def missing(what: str) -> None:
    """A server that is not installed: a skip for a developer, a failure in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must have it")
    pytest.skip(f"{what} is not installed")


def wait_until_answers(
    url: str,
    process: subprocess.Popen[bytes],
    log: Path,
    timeout: float = 60,
    *,
    is_ready: Callable[[bytes], bool] = lambda _: True,
) -> None:
    """Return when `url` answers 200 with a body that `is_ready`; fail when the process ends or the time is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=2) as answer,
        ):
            if answer.status == 200 and is_ready(answer.read()):
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"{url} did not become ready: {log.read_text(errors='replace')[-2000:]}")


@dataclass
class Running:
    """A server process that can be killed and started again on the same ports and data."""

    server: NatsServer | SeaweedServer
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start and wait until ready."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.server.command(), stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        wait_until_answers(self.server.ready_url, self.process, self.log)
        if isinstance(self.server, SeaweedServer):
            wait_until_answers(self.server.topology_url, self.process, self.log, is_ready=_has_volumes)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM; SIGKILL after 15 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def _has_volumes(topology: bytes) -> bool:
    """A store that was started again can answer before its volumes are known, and finds no object then."""
    return bool(json.loads(topology).get("Topology", {}).get("Max"))


@contextlib.contextmanager
def nats_server(directory: Path, *, sync_always: bool = False) -> Iterator[Running]:
    """A fresh nats-server with JetStream."""
    port, monitor = free_ports(2)
    server = NatsServer(directory=directory / "nats", port=port, monitor_port=monitor, sync_always=sync_always)
    with _running(Running(server, directory / "nats.log")) as running:
        yield running


@contextlib.contextmanager
def seaweed_server(directory: Path) -> Iterator[Running]:
    """A fresh SeaweedFS with S3 and filer; keys `testkey`/`testsecret`."""
    server = SeaweedServer.on_free_ports(directory / "weed", access_key="testkey", secret_key="testsecret")
    with _running(Running(server, directory / "weed.log")) as running:
        yield running


@contextlib.contextmanager
def _running(running: Running) -> Iterator[Running]:
    try:
        running.start()
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def postgresql_server(directory: Path) -> Iterator[str]:
    """A private PostgreSQL cluster from Debian's package; yields `postgresql+asyncpg://…`.

    As root it runs as user `postgres`, which must be able to reach `directory`.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not binaries:
        missing("postgresql")
    port, data = free_port(), directory / "pg" / "data"
    data.parent.mkdir(parents=True, exist_ok=True)
    prefix: list[str] = []
    if os.getuid() == 0:
        shutil.chown(data.parent, "postgres")
        for parent in data.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        prefix = ["runuser", "-u", "postgres", "--"]

    def run(command: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(binaries[-1] / command), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k '{data.parent}' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-w", "-s", "-l", str(data.parent / "log"), "-o", options, "start")
    try:
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "-s", "stop")
