"""Log files are shown as they grow, and do not grow for ever."""

from __future__ import annotations

from pathlib import Path

from tidemill.platform.logs import Follower
from tidemill.platform.processes import tail


def test_whole_lines_are_shown_once(tmp_path: Path) -> None:
    file, shown = tmp_path / "a.log", list[str]()
    follower = Follower(file, shown.append)
    follower.step()
    file.write_text("one\ntw")
    follower.step()
    assert shown == ["one"]
    with file.open("a") as output:
        output.write("o\n")
    follower.step()
    assert shown == ["one", "two"]


def test_lines_of_earlier_runs_are_not_shown_again(tmp_path: Path) -> None:
    file, shown = tmp_path / "a.log", list[str]()
    file.write_text("old\n")
    follower = Follower(file, shown.append)
    with file.open("a") as output:
        output.write("new\n")
    follower.step()
    assert shown == ["new"]


def test_a_large_file_is_set_aside_while_the_child_goes_on_writing(tmp_path: Path) -> None:
    file, shown = tmp_path / "a.log", list[str]()
    follower = Follower(file, shown.append)
    with file.open("ab", buffering=0) as child:
        child.write(b"x" * 100 + b"\n")
        follower.step(max_bytes=50)
        child.write(b"after\n")
        follower.step(max_bytes=50)
    assert shown == ["x" * 100, "after"]
    assert file.read_bytes() == b"after\n"
    assert (tmp_path / "a.log.1").stat().st_size == 101


def test_the_last_words_are_the_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("\n".join(map(str, range(100))))
    assert tail(file, 2) == "  98\n  99"
    assert tail(tmp_path / "none.log") == "(no output)"
