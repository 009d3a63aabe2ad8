"""An operator's day: failures set aside, cancelled, redriven, replayed; and Streams that changed with a version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Platform, running_platform
from tidemill.platform.installation import Installation
from tidemill_common.bus.opening import open_bus
from tidemill_common.settings import BusSettings

pytestmark = pytest.mark.e2e

_SERVICES = """
functions:
  oscar:
  - local:
      name: flaky
      image: none
      script: script.sh
      input: [{storage_provider: minio.default, path: flaky/in}]
      retry: {attempts: 2, backoff: 0.1s}
      environment: {variables: {CODE: '3', PAUSE: '0'}}
  - local:
      name: slow
      image: none
      script: script.sh
      environment: {variables: {CODE: '0', PAUSE: '60'}}
"""
_SCRIPT = '#!/bin/sh\necho "attempt $TIDEMILL_ATTEMPT"\nsleep "$PAUSE"\nexit "$CODE"\n'


@pytest.fixture(scope="module")
def fdl(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Services that fail and that take long, applied."""
    folder = tmp_path_factory.mktemp("fdl")
    (folder / "script.sh").write_text(_SCRIPT)
    (folder / "services.yaml").write_text(_SERVICES)
    platform.tidemill("apply", folder / "services.yaml")
    return folder / "services.yaml"


@pytest.fixture(scope="module")
def letter(platform: Platform, fdl: Path) -> str:
    """An Invocation whose Attempts are used up."""
    platform.tidemill("put", fdl.with_name("script.sh"), "flaky/in/")
    platform.wait_for_invocations("flaky", 1)
    deadline = time.monotonic() + 60
    while not (letters := platform.json("dead", "ls", "--service", "flaky")):  # kept a moment after its end is told
        assert time.monotonic() < deadline, platform.logs()
        time.sleep(0.1)
    (found,) = letters
    assert (found["reason"], found["attempts"], found["exit_code"]) == ("script-failed", 2, 3)
    return str(found["invocation_id"])


def test_a_dead_letter_keeps_its_event_and_last_lines(platform: Platform, letter: str) -> None:
    found = platform.json("dead", "show", letter)
    assert found["event"]["artifact"]["path"] == "flaky/in/script.sh"
    assert "attempt 2" in found["log_tail"]


def test_a_redriven_letter_runs_again_and_is_gone(platform: Platform, letter: str, fdl: Path) -> None:
    fdl.write_text(_SERVICES.replace("CODE: '3'", "CODE: '0'"))
    platform.tidemill("apply", "--yes", fdl)
    new = platform.tidemill("dead", "redrive", letter).strip()
    (done,) = platform.json("wait", new, "--timeout", "60")
    assert (done["phase"], done["redrive_of"]) == ("Succeeded", letter)
    assert platform.json("dead", "ls") == []


def test_events_of_the_past_can_be_replayed(platform: Platform, letter: str) -> None:
    before = len(platform.json("invocations", "--service", "flaky"))
    assert platform.json("replay", "flaky")["appended"] == 1
    assert platform.wait_for_invocations("flaky", before + 1)[0]["phase"] == "Succeeded"


def test_a_running_invocation_is_cancelled(platform: Platform, fdl: Path) -> None:
    identity = platform.tidemill("job", "slow", "-i", "x").strip()
    deadline = time.monotonic() + 60
    while not (found := platform.json("invocations", "--service", "slow")) or found[0]["phase"] != "Running":
        assert time.monotonic() < deadline, platform.logs()
        time.sleep(0.1)
    platform.tidemill("cancel", identity)
    (cancelled,) = platform.json("wait", identity, "--timeout", "60", code=1)
    assert (cancelled["id"], cancelled["phase"]) == (identity, "Cancelled")


def test_apply_asks_before_it_changes_and_shows_the_mistake(platform: Platform, fdl: Path) -> None:
    fdl.write_text(_SERVICES.replace("PAUSE: '60'", "PAUSE: '1'"))
    platform.tidemill("apply", fdl, code=2)
    assert platform.json("get", "slow")["environment"]["variables"]["PAUSE"] == "60"
    fdl.write_text(_SERVICES.replace("attempts: 2", "attempts: two"))
    platform.tidemill("apply", "--yes", fdl, code=2)


def test_objects_stored_before_the_service_reach_it_by_a_replay(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "script.sh").write_text(_SCRIPT)
    (tmp_path / "late.yaml").write_text(
        "functions:\n  oscar:\n  - local:\n      name: late\n      image: none\n      script: script.sh\n"
        "      input: [{storage_provider: minio.default, path: late/in}]\n"
        "      environment: {variables: {CODE: '0', PAUSE: '0'}}\n"
    )
    platform.tidemill("put", tmp_path / "old.txt", "late/in/")
    platform.tidemill("apply", tmp_path / "late.yaml")
    platform.json("replay", "late")
    assert platform.wait_for_invocations("late", 1)[0]["phase"] == "Succeeded"


def test_a_removed_service_takes_its_data_along_when_told_to(platform: Platform, letter: str) -> None:
    platform.tidemill("rm", "flaky", code=2)
    platform.tidemill("rm", "flaky", "--yes", "--delete-data")
    platform.tidemill("get", "flaky", code=3)
    assert platform.json("ls", "flaky") == []
    assert all(row["balanced"] for row in platform.json("accounts"))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Platform]:
    """A platform of this test's own."""
    with running_platform(tmp_path / "platform") as running:
        yield running


async def test_changed_streams_are_only_changed_when_the_operator_says_so(fresh: Platform) -> None:
    installation = Installation.existing(fresh.directory)
    other = installation.bus_settings("operator").model_copy(update={"logs_max_bytes": 1024**2})
    await _apply(other)
    assert fresh.stop() == 0
    fresh.tidemill("up", "--port", "0", code=1)
    (change,) = fresh.json("streams", "plan")
    assert (change["stream"], change["action"], set(change["fields"])) == ("LOGS", "update", {"max_bytes"})
    fresh.tidemill("streams", "apply")
    fresh.start()
    assert fresh.json("streams") == []


async def _apply(settings: BusSettings) -> None:
    async with open_bus(settings, name="test") as bus:
        await bus.streams.apply(await bus.streams.plan())
