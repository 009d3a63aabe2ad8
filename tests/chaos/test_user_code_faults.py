"""Whatever a script does, its Invocation ends with the right reason, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.embedded import Platform, running_platform, wait_until
from tests.identities import seeds

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all scripts."""
    with running_platform(tmp_path_factory.mktemp("faults")) as running:
        yield running


def run(platform: Platform, name: str, script: str, **fields: Any) -> dict[str, Any]:
    """Create a Service, call it once, and return its Invocation when it has ended."""
    token = platform.apply({"name": name, "script": script, "cpu": "0.2", "memory": "64Mi", **fields})
    answer = platform.patiently("POST", f"/job/{name}", content=b"", headers={"Authorization": f"Bearer {token}"})
    return ended(platform, answer.headers["Tidemill-Invocation-Id"])


def ended(platform: Platform, invocation: str) -> dict[str, Any]:
    """The Invocation, once it has ended."""
    found: dict[str, Any] = {}

    def over() -> bool:
        answer = platform.patiently("GET", f"/v1/invocations/{invocation}")
        found.update(answer.json() if answer.status_code == 200 else {})
        return found.get("phase") in {"Succeeded", "Failed", "Cancelled"}

    wait_until(over, f"Invocation {invocation} has ended", timeout=200, show=lambda: found)
    return found


RETRY_ONCE = {"attempts": 2, "backoff": "0.2s"}


@pytest.mark.parametrize(
    ("name", "script", "fields", "expected"),
    [
        ("exits", "echo before; exit 3\n", {}, {"reason": "script-failed", "exit_code": 3, "attempts": 2}),
        ("killed", "kill -9 $$\n", {}, {"reason": "script-killed", "signal": 9, "attempts": 2}),
        ("slow", "sleep 60\n", {"timeout": "1s"}, {"reason": "timeout", "attempts": 2}),
        (
            "greedy",
            'i=0; while :; do head -c 1048576 /dev/zero >> "$TMP_OUTPUT_DIR/x"; sleep 0.02; done\n',
            {"ephemeral_storage_request": "20Mi"},
            {"reason": "disk-limit", "attempts": 2},
        ),
        ("nothing", "#!/no/such/interpreter\n", {}, {"reason": "start-failed", "attempts": 2}),
        ("final", "exit 64\n", {"retry": {**RETRY_ONCE, "final_exit_codes": [64]}}, {"exit_code": 64, "attempts": 1}),
    ],
)
def test_a_failure_has_its_reason(
    platform: Platform, name: str, script: str, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    row = run(platform, name, script, **{"retry": RETRY_ONCE, **fields})
    assert row["phase"] == "Failed"
    assert {key: row[key] for key in expected} == expected
    accounts = platform.accounts(name)
    assert accounts["balanced"] is True
    assert accounts["failed" if name == "final" else "dead"] == 1


def test_a_dead_letter_keeps_what_is_needed_and_can_be_redriven(platform: Platform) -> None:
    row = run(platform, "letter", "echo the last words; exit 9\n", retry={"attempts": 1})
    assert "the last words" in str(platform.letter(row["id"]))
    letters = platform.patiently("GET", "/v1/dead-letters?service=letter").json()["items"]
    assert [(letter["invocation_id"], letter["reason"]) for letter in letters] == [(row["id"], "script-failed")]
    again = platform.patiently("POST", f"/v1/dead-letters/{row['id']}/redrive")
    assert again.status_code < 300, again.text
    wait_until(lambda: platform.accounts("letter")["dead"] == 2, "the redriven Invocation has run")
    linked = [item for item in platform.invocations("letter") if item.get("redrive_of") == row["id"]]
    assert len(linked) == 1


def test_children_that_a_script_leaves_behind_are_gone(platform: Platform) -> None:
    script = "(setsid sleep 4711 &) ; (sleep 4711 &) ; nohup sleep 4711 >/dev/null 2>&1 & echo left; exit 0\n"
    assert run(platform, "forks", script)["phase"] == "Succeeded"

    def left() -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline() == ["sleep", "4711"]:
                    found.append(process.pid)
        return found

    wait_until(lambda: not left(), "no child of the script is left", timeout=30)


def test_a_script_that_prints_without_end_fills_neither_memory_nor_bus(platform: Platform) -> None:
    row = run(platform, "chatty", "head -c 200000000 /dev/zero | tr '\\0' 'x' | fold -w 100; echo the end\n")
    assert row["phase"] == "Succeeded"
    assert "the end" in row["log_tail"]
    taken = []
    for worker in platform.workers():
        with contextlib.suppress(psutil.NoSuchProcess):  # another test's, and idle for long enough
            taken.append(worker.memory_info().rss)
    assert taken
    assert max(taken) < 200 * 1024**2


def test_user_code_sees_no_key_in_its_environment_nor_in_its_ancestors(platform: Platform) -> None:
    script = """
pid=$$
while [ "$pid" -gt 1 ]; do
  tr '\\0' '\\n' < /proc/$pid/environ > "$TMP_OUTPUT_DIR/environ-$pid" || true
  pid=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$pid/status)
done
cat "$TMP_OUTPUT_DIR"/environ-*; rm "$TMP_OUTPUT_DIR"/environ-*
"""
    row = run(platform, "nosy", script)
    assert row["phase"] == "Succeeded"
    seen = platform.patiently("GET", f"/v1/invocations/{row['id']}/logs").text
    assert "TIDEMILL_SUPERVISOR_WORKER_ID" in seen, "the ancestors' environments were not read"
    secrets = [platform.connection[name] for name in ("password", "s3_access_key", "s3_secret_key")]
    secrets += seeds(platform.directory)
    assert [secret for secret in secrets if secret in seen] == []
