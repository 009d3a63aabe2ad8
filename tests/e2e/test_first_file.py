"""A user's first hour: apply a file, store a photograph, find the result, see a failure, call a Service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Platform

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def applied(platform: Platform) -> None:
    """The example Services are there."""
    examples = Path(__file__).resolve().parents[2] / "examples"
    files = sorted(examples.glob("*/*.yaml"))
    platform.tidemill("apply", *files)


def ended(platform: Platform, service: str) -> int:
    return len(platform.json("invocations", "--service", service))


def test_a_stored_photograph_becomes_a_thumbnail_and_its_description(
    platform: Platform, examples: Path, tmp_path: Path
) -> None:
    platform.tidemill("put", examples / "photographs" / "chelsea.png", "gallery/photographs/")
    (described,) = platform.wait_for_invocations("describe", 1)
    assert described["phase"] == "Succeeded"
    platform.tidemill("get-file", "gallery/thumbnails/chelsea.png", tmp_path / "small.png")
    platform.tidemill("get-file", "gallery/descriptions/chelsea.json", tmp_path / "facts.json")
    small, facts = (tmp_path / "small.png").read_bytes(), json.loads((tmp_path / "facts.json").read_text())
    assert small.startswith(b"\x89PNG")
    assert (facts["width"], facts["height"], facts["size_bytes"]) == (150, 100, len(small))
    assert facts["object"] == "thumbnails/chelsea.png"


def test_the_invocation_is_found_by_its_id_with_its_outputs_and_log(platform: Platform) -> None:
    (first,) = platform.wait_for_invocations("thumbnail", 1)
    status = platform.json("status", first["id"])
    assert [artifact["path"] for artifact in status["outputs"]] == ["gallery/thumbnails/chelsea.png"]
    assert "451 × 300 -> 150 × 100" in platform.tidemill("logs", first["id"])


def test_storing_the_same_file_again_runs_again(platform: Platform, examples: Path) -> None:
    before = ended(platform, "thumbnail")
    platform.tidemill("put", examples / "photographs" / "chelsea.png", "gallery/photographs/")
    assert len(platform.wait_for_invocations("thumbnail", before + 1)) == before + 1


def test_a_file_that_is_no_photograph_fails_visibly(platform: Platform, examples: Path) -> None:
    before = ended(platform, "thumbnail")
    platform.tidemill("put", examples / "photographs" / "not-a-photograph.png", "gallery/photographs/")
    platform.wait_for_invocations("thumbnail", before + 1)
    (failed,) = platform.json("invocations", "--service", "thumbnail", "--phase", "Failed")
    assert (failed["reason"], failed["exit_code"], failed["attempts"]) == ("script-failed", 65, 1)
    assert "not a PNG file" in platform.tidemill("status", failed["id"], code=1)


def test_a_called_service_answers(platform: Platform) -> None:
    assert platform.tidemill("run", "wordcount", "-i", "a rose is a rose") == "2 a\n2 rose\n1 is\n"


def test_a_job_can_be_waited_for(platform: Platform) -> None:
    identity = platform.tidemill("job", "wordcount", "-i", "one two two").strip()
    (done,) = platform.json("wait", identity, "--timeout", "60")
    assert (done["id"], done["phase"]) == (identity, "Succeeded")


def test_an_ended_invocation_can_be_retried_and_is_linked(platform: Platform) -> None:
    old = platform.json("invocations", "--service", "wordcount")[0]["id"]
    new = platform.tidemill("retry", old).strip()
    (done,) = platform.json("wait", new, "--timeout", "60")
    assert (done["phase"], done["redrive_of"]) == ("Succeeded", old)


def test_applying_the_same_files_changes_nothing(platform: Platform, examples: Path) -> None:
    changes = platform.json("apply", "--dry-run", *sorted(examples.glob("*/*.yaml")))
    assert {change["action"] for change in changes} == {"unchanged"}


def test_nothing_was_missed_and_the_accounts_balance(platform: Platform) -> None:
    found = platform.json("reconcile", "thumbnail", "--dry-run")
    assert (found["listed"], found["missing"]) == (2, 0)
    assert all(row["balanced"] for row in platform.json("accounts"))


def test_the_doctor_finds_nothing_wrong(platform: Platform) -> None:
    findings = platform.json("doctor")
    assert {finding["verdict"] for finding in findings} == {"good"}, findings


def test_what_is_not_there_is_said_so(platform: Platform) -> None:
    platform.tidemill("get", "nothing", code=3)
    platform.tidemill("status", "0" * 32, code=3)
    platform.tidemill("--endpoint", "http://127.0.0.1:9", "ls", code=4)
    platform.tidemill("run", "wordcount", code=2)
