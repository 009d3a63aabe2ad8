"""Workers' bus identities on a whole platform: they end many times while user code runs, and nobody notices."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import Platform, running_platform, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One whose Workers' identities hold for three seconds."""
    directory = tmp_path_factory.mktemp("identities")
    lifetime = {"TIDEMILL_SCHEDULER_WORKER__IDENTITY_LIFETIME": "PT3S"}
    with running_platform(directory, **lifetime, TIDEMILL_SCHEDULER_IDLE_TIMEOUT="PT1S") as running:
        yield running


def submit(platform: Platform, name: str, script: str) -> str:
    token = platform.apply({"name": name, "script": script, "cpu": "0.2", "memory": "64Mi"})
    answer = platform.patiently("POST", f"/job/{name}", content=b"", headers={"Authorization": f"Bearer {token}"})
    return answer.headers["Tidemill-Invocation-Id"]


def ended(platform: Platform, invocation: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(platform.patiently("GET", f"/v1/invocations/{invocation}").json())
        return found.get("phase") in {"Succeeded", "Failed", "Cancelled"}

    wait_until(over, f"Invocation {invocation} has ended", timeout=90, show=lambda: found)
    return found


def test_an_attempt_outlives_several_identities(platform: Platform, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"i=0; until [ -e {go} ]; do i=$((i + 1)); echo $i; sleep 1; done; echo $i > {tmp_path}/last"
    invocation = submit(platform, "patient", script)
    wait_until(lambda: times_back(platform, "patient") >= 3, "it has connected again and again")
    go.touch()
    row = ended(platform, invocation)
    assert (row["phase"], row["attempts"]) == ("Succeeded", 1)
    last = int((tmp_path / "last").read_text())
    lines = platform.patiently("GET", f"/v1/invocations/{row['id']}/logs").text.split()
    assert lines == [str(number) for number in range(1, last + 1)]
    server = (platform.directory / "logs" / "nats.log").read_text()
    assert "Publish Violation" not in server
    assert "Subscription Violation" not in server


def times_back(platform: Platform, service: str) -> int:
    """How often the Service's one Worker has lost the bus and has it again."""
    logs = list((platform.directory / "logs" / "workers").glob(f"{service}-*.log"))
    assert len(logs) <= 1
    return sum(log.read_text().count("bus connection back") for log in logs)


def test_an_identity_goes_with_its_last_worker(platform: Platform) -> None:
    directory = platform.directory / "state" / "scheduler" / "identities"
    invocation = submit(platform, "brief", "sleep 2")
    wait_until((directory / "brief.creds").exists, "the identity is there")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "brief.creds").stat().st_mode) == 0o600
    ended(platform, invocation)
    wait_until(lambda: not (directory / "brief.creds").exists(), "the identity is gone")


def test_a_new_scheduler_keeps_the_workers_of_the_old_one_connected(platform: Platform) -> None:
    invocation = submit(platform, "adopted", "sleep 12")
    wait_until(
        lambda: platform.patiently("GET", f"/v1/invocations/{invocation}").json().get("phase") == "Running",
        "it runs",
    )
    platform.kill("scheduler")
    row = ended(platform, invocation)
    assert (row["phase"], row["attempts"]) == ("Succeeded", 1)
