"""The command file: what a script finds in its environment is what was asked for, byte for byte, in every shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill_common.runner import LOOP, script_file

SHELLS: Final = [
    shell for shell in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0]) is not None
]
_STAND_IN: Final = '_tidemill_need() { _tidemill_program=$1; }; . "$1"; exec "$@"'
# What a shell makes of its own variables when it starts is no matter of ours: the script's interpreter sees our values.
_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True) | st.text(
    st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1, max_size=5
)
_bytes = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"").decode(errors="surrogateescape"))
_values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40) | _bytes
_shellish = st.text("'\"\\$`!#*?[]{}()<>|&;~ \t\r\n=-_aZ0\x01\x7f\x81\x88é", max_size=30)
_AWKWARD: Final = [
    {"A": "it's", "B": "\n\n", "C": "'", "D": "''\\''", "E": "$(exit 3)`exit 3`", "F": "-n", "G": " lead and trail "},
    {"IFS": "xyz", "PATH": "/usr/bin:/bin", "PS4": "$(exit 3)", "UID": "0x", "OPTIND": "none", "LINENO": "x"},
    {"a.b": "1", "-n": "2", "x y": "3", "ü": "4", "_": "5", "1st": "6", "a'b": "7"},
    {
        "PWD": "/nowhere",
        "OLDPWD": "x",
        "SHLVL": "many",
        "BASH_ENV": "/nowhere",
        "ENV": "/nowhere",
        "POSIXLY_CORRECT": "y",
    },
    {"LC_ALL": "no_SUCH.locale", "LANG": "C.UTF-8", "Z": b"\xff\x81\x82\x88\xc3".decode(errors="surrogateescape")},
]


def seen(shell: list[str], directory: Path, environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """The environment of what runs."""
    file = directory / "command"
    file.write_bytes(
        script_file(["/bin/cat", "/proc/self/environ"], environment=environment, defaults={}, directory=str(directory))
    )
    program = [shutil.which(shell[0]) or shell[0], *shell[1:], "-c", _STAND_IN, "test", str(file)]
    ended = subprocess.run(program, capture_output=True, check=False, env={"PATH": "/usr/bin:/bin"}, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, b"")
    return dict(pair.split(b"=", 1) for pair in ended.stdout.split(b"\0") if b"=" in pair)


def check(shell: list[str], directory: Path, environment: Mapping[str, str]) -> None:
    """Compare."""
    found = seen(shell, directory, environment)
    wanted = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
@pytest.mark.parametrize("environment", _AWKWARD, ids=lambda environment: "-".join(environment)[:20])
def test_awkward_variables_arrive(shell: list[str], tmp_path: Path, environment: dict[str, str]) -> None:
    check(shell, tmp_path, environment)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
@given(environment=st.dictionaries(_names, _values | _shellish, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_variable_arrives(shell: list[str], tmp_path: Path, environment: dict[str, str]) -> None:
    check(shell, tmp_path, environment)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
def test_defaults_give_way_to_the_image_and_to_the_user(shell: list[str], tmp_path: Path) -> None:
    file = script_file(
        ["/bin/cat", "/proc/self/environ"],
        environment={"B": "user"},
        defaults={"A": "default", "B": "default", "C": "default"},
        directory=str(tmp_path),
    )
    (tmp_path / "command").write_bytes(file)
    program = [shutil.which(shell[0]) or "", *shell[1:], "-c", _STAND_IN, "test", str(tmp_path / "command")]
    output = subprocess.run(program, capture_output=True, check=True, env={"PATH": "/bin", "A": "image"}).stdout
    found = dict(pair.split(b"=", 1) for pair in output.split(b"\0") if b"=" in pair)
    assert (found[b"A"], found[b"B"], found[b"C"]) == (b"image", b"user", b"default")


@given(words=st.lists(_shellish | _values, min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_argument_arrives(tmp_path: Path, words: list[str]) -> None:
    file = script_file(["/usr/bin/printf", "%s\\0", "-", *words], environment={}, defaults={}, directory=str(tmp_path))
    (tmp_path / "command").write_bytes(file)
    program = ["/bin/sh", "-c", _STAND_IN, "test", str(tmp_path / "command")]
    output = subprocess.run(program, capture_output=True, check=True, env={"PATH": "/bin"}).stdout
    assert output == b"".join(os.fsencode(word) + b"\0" for word in ["-", *words])


def test_the_loop_assigns_no_name_that_an_image_could_use() -> None:
    for line in LOOP.splitlines():
        word = line.strip().partition("=")
        if word[1] and word[0].replace("_", "").isalnum():
            assert word[0].startswith("_tidemill_"), line


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
def test_every_shell_can_read_the_loop(shell: list[str]) -> None:
    program = shutil.which(shell[0]) or ""
    subprocess.run([program, *shell[1:], "-n", "-c", LOOP], check=True, timeout=20, env={"PATH": "/bin"})
