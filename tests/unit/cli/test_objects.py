"""Where an uploaded file goes, and what an answer is."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tidemill.commands.invocations import decoded
from tidemill.errors import CliError
from tidemill.objects import destination

FILE = Path("photos/cat.png")


@pytest.mark.parametrize(
    ("target", "several", "path"),
    [
        ("bucket", False, "bucket/cat.png"),
        ("bucket/", False, "bucket/cat.png"),
        ("bucket/in/", False, "bucket/in/cat.png"),
        ("/bucket/in/", False, "bucket/in/cat.png"),
        ("bucket/in", False, "bucket/in"),
        ("bucket/in", True, "bucket/in/cat.png"),
        ("bucket/in/dog.png", False, "bucket/in/dog.png"),
    ],
)
def test_a_target_is_a_folder_or_a_name(target: str, several: bool, path: str) -> None:
    assert destination(FILE, target, several=several) == path


def test_a_target_without_bucket_is_refused() -> None:
    with pytest.raises(CliError):
        destination(FILE, "/", several=False)


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (base64.b64encode(b"\x89PNG"), b"\x89PNG"),
        (base64.b64encode(b"text") + b"\n", b"text"),
        (b"plain text\n", b"plain text\n"),
        (b"", b""),
    ],
)
def test_an_answer_in_base64_is_decoded(body: bytes, content: bytes) -> None:
    assert decoded(body) == content
