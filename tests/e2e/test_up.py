"""`tidemill up` itself: stop and start again, killed, started twice; and what it leaves in files and environments."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Platform, running_platform
from tests.identities import seeds

pytestmark = pytest.mark.e2e

_PROCESSES = {"nats", "seaweedfs", "gateway", "storage-bridge", "scheduler"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Platform]:
    """A platform of this test's own."""
    with running_platform(tmp_path / "platform") as running:
        yield running


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file to store."""
    file = tmp_path / "words.txt"
    file.write_text("a rose is a rose")
    return file


def test_it_continues_after_stop_and_start(fresh: Platform, examples: Path, text: Path) -> None:
    fresh.tidemill("apply", examples / "wordcount" / "wordcount.yaml")
    fresh.tidemill("put", text, "some-bucket/")
    answer = fresh.tidemill("run", "wordcount", "-i", "one")
    before, invocations = fresh.connection, fresh.wait_for_invocations("wordcount", 1)
    assert fresh.stop() == 0
    fresh.start()
    assert {name: before[name] for name in ("password", "s3_secret_key")} == {
        name: fresh.connection[name] for name in ("password", "s3_secret_key")
    }
    assert fresh.connection["endpoint"] == before["endpoint"]
    assert fresh.json("ls", "some-bucket")[0]["path"] == "some-bucket/words.txt"
    assert fresh.json("invocations") == invocations
    assert fresh.tidemill("run", "wordcount", "-i", "one") == answer


def test_it_stops_and_leaves_nothing_behind(fresh: Platform, examples: Path) -> None:
    fresh.tidemill("apply", examples / "wordcount" / "wordcount.yaml")
    fresh.tidemill("run", "wordcount", "-i", "one")
    family = psutil.Process(fresh.process.pid).children(recursive=True)
    assert len(family) > len(_PROCESSES)
    assert fresh.stop() == 0
    assert not [process for process in family if process.is_running()]


def test_what_a_killed_up_left_behind_is_ended_by_the_next(fresh: Platform) -> None:
    orphans = fresh.children()
    assert orphans.keys() == _PROCESSES
    fresh.kill()
    assert all(process.is_running() for process in orphans.values())
    fresh.start()
    assert not [name for name, process in orphans.items() if process.is_running()]
    assert fresh.children().keys() == _PROCESSES
    fresh.tidemill("ls")


def test_down_ends_what_a_killed_up_left_behind(fresh: Platform, examples: Path) -> None:
    fresh.tidemill("apply", examples / "wordcount" / "wordcount.yaml")
    fresh.tidemill("run", "wordcount", "-i", "one")
    orphans = psutil.Process(fresh.process.pid).children(recursive=True)
    assert len(orphans) > len(_PROCESSES)
    scheduler = fresh.children()["scheduler"]
    fresh.kill()
    scheduler.kill()  # nobody is left to stop its Workers
    assert "stopped" in fresh.tidemill("down")
    assert not [process for process in orphans if process.is_running()]


def test_work_in_flight_survives_stop_and_start(fresh: Platform, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "long.sh").write_text(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.1; done\n")
    (tmp_path / "long.yaml").write_text(
        "functions:\n  oscar:\n  - local: {name: long, image: none, script: long.sh}\n", "utf-8"
    )
    fresh.tidemill("apply", tmp_path / "long.yaml")
    identity = fresh.tidemill("job", "long", "-i", "x").strip()
    deadline = time.monotonic() + 60
    while not (found := fresh.json("invocations")) or found[0]["phase"] != "Running":
        assert time.monotonic() < deadline, fresh.logs()
        time.sleep(0.1)
    assert fresh.stop() == 0
    fresh.start()
    go.touch()
    (done,) = fresh.json("wait", identity, "--timeout", "60")
    assert (done["id"], done["phase"]) == (identity, "Succeeded")
    (account,) = fresh.json("accounts")
    assert (account["requested"], account["succeeded"], account["balanced"]) == (1, 1, True)


def test_a_second_signal_kills(fresh: Platform) -> None:
    family = psutil.Process(fresh.process.pid).children(recursive=True)
    fresh.children()["seaweedfs"].suspend()  # it cannot end by itself
    fresh.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    while "scheduler" in fresh.children():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    fresh.process.send_signal(signal.SIGINT)
    fresh.process.wait(60)
    assert not [process for process in family if process.is_running()]
    assert "seaweedfs did not end" not in fresh.directory.with_suffix(".log").read_text()


@pytest.mark.parametrize("name", sorted(_PROCESSES))
def test_a_process_that_dies_is_started_again(platform: Platform, name: str) -> None:
    old = platform.child(name)
    old.kill()
    platform.child(name, other_than=old.pid)
    deadline = time.monotonic() + 90
    while not _well(platform):
        assert time.monotonic() < deadline, platform.logs()
        time.sleep(0.2)


def _well(platform: Platform) -> bool:
    try:
        platform.tidemill("doctor")
    except AssertionError:
        return False
    return True


def test_a_second_up_on_the_directory_says_so(platform: Platform) -> None:
    platform.tidemill("up", "--port", "0", code=1)
    assert "runs already" in platform.tidemill("up", "--detach")


def test_the_port_is_the_one_that_was_asked_for_or_an_error(platform: Platform, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        elsewhere = Platform(tmp_path / "elsewhere")
        elsewhere.tidemill("up", "--port", str(taken.getsockname()[1]), code=1)


def test_detached_it_returns_when_ready_and_down_stops_it(tmp_path: Path) -> None:
    detached = Platform(tmp_path / "platform")
    try:
        detached.tidemill("up", "--detach", "--port", "0")
        detached.tidemill("doctor")
    finally:
        assert "stopped" in detached.tidemill("down")
    detached.tidemill("ls", code=4)


def test_only_this_user_can_read_what_it_wrote(platform: Platform) -> None:
    assert stat.S_IMODE(platform.directory.stat().st_mode) == 0o700
    secrets = [*platform.directory.glob("*.json"), *(platform.directory / "secrets").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_no_process_has_a_secret_in_its_environment_or_command_line(platform: Platform, examples: Path) -> None:
    platform.tidemill("apply", "--yes", examples / "wordcount" / "wordcount.yaml")
    platform.tidemill("run", "wordcount", "-i", "one")
    secrets = [
        *seeds(platform.directory),
        *(platform.connection[name] for name in ("password", "s3_secret_key", "events_token")),
    ]
    told = {}
    for process in psutil.Process(platform.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
            told[process] = "\0".join([*process.environ().values(), *process.cmdline()])
    assert len(told) > len(_PROCESSES)
    for process, text in told.items():
        assert not [secret for secret in secrets if secret in text], process


def test_nothing_listens_beyond_loopback(platform: Platform) -> None:
    family = psutil.Process(platform.process.pid).children(recursive=True)
    sockets = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
            sockets += [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert sockets
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}
    assert os.getpid() not in {process.pid for process in family}
