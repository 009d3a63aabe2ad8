"""A model that is loaded once, and texts that are counted together: the examples `language` and `sizes`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Platform

pytestmark = pytest.mark.e2e

TEXTS = {
    "river": "the people of the river",
    "fluss": "wo ist der hund und die katze",
    "mar": "la gente que vive en el mar",
}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LANGUAGES = {"river": "en", "fluss": "de", "mar": "es"}


@pytest.fixture(scope="module", autouse=True)
def applied(platform: Platform) -> None:
    platform.tidemill("apply", EXAMPLES / "language" / "language.yaml", EXAMPLES / "sizes" / "sizes.yaml")


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.txt" for name in TEXTS}
    for name, path in found.items():
        path.write_text(TEXTS[name])
    return found


def test_calls_are_answered_by_one_process_that_made_its_model_once(platform: Platform) -> None:
    answers = [platform.tidemill("run", "language", "-i", text).strip() for text in TEXTS.values()]
    assert answers == list(LANGUAGES.values())
    logs = [platform.tidemill("logs", row["id"]) for row in platform.wait_for_invocations("language", 3)]
    assert sum("making the model" in log for log in logs) == 1


def test_stored_texts_are_handled_by_it_too(platform: Platform, texts: dict[str, Path], tmp_path: Path) -> None:
    platform.tidemill("put", *texts.values(), "language/texts/")
    platform.wait_for_invocations("language", 6)
    for name, language in LANGUAGES.items():
        platform.tidemill("get-file", f"language/found/{name}.language", tmp_path / name)
        assert (tmp_path / name).read_text().strip() == language


def test_texts_are_counted_together_and_a_bad_one_fails_alone(
    platform: Platform, texts: dict[str, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\0\0")
    platform.tidemill("put", *texts.values(), bad, "sizes/texts/")
    ended = platform.wait_for_invocations("sizes", 4)
    assert {row["attempts"] for row in ended} == {1}
    (failed,) = platform.json("invocations", "--service", "sizes", "--phase", "Failed")
    assert (failed["exit_code"], failed["reason"]) == (65, "script-failed")
    platform.tidemill("get-file", "sizes/found/river.size", tmp_path / "river.size")
    assert (tmp_path / "river.size").read_text() == "0 lines, 5 words, 23 bytes\n"
    assert platform.tidemill("logs", failed["id"]).strip().endswith("bad.txt: not a text")
