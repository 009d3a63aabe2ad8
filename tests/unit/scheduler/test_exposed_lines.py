"""Lines of logs, and the interpreter of a script."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill_scheduler.exposing.instances import interpreter_of
from tidemill_scheduler.exposing.launch import MAX_LOG_BYTES, LineLog
from tidemill_scheduler.exposing.lines import newest, parse, tail


@pytest.mark.parametrize(
    ("line", "at", "text"),
    [
        ("2026-01-02T03:04:05.123456Z hello", datetime(2026, 1, 2, 3, 4, 5, 123456, UTC), "hello"),
        ("2026-01-02T03:04:05.123456789Z a b", datetime(2026, 1, 2, 3, 4, 5, 123456, UTC), "a b"),
        ("2026-01-02T03:04:05+01:00 x", datetime(2026, 1, 2, 2, 4, 5, 0, UTC), "x"),
        ("2026-01-02T03:04:05Z ", datetime(2026, 1, 2, 3, 4, 5, 0, UTC), ""),
        ("no time", None, "no time"),
    ],
)
def test_a_line_is_split_into_time_and_text(line: str, at: datetime | None, text: str) -> None:
    found = parse(line)
    assert (found.at, found.text) == (at, text)


def test_the_newest_lines_fit_into_a_message() -> None:
    found = newest("\n".join("x" * 4000 for _ in range(1000)), 1000)
    assert 50 < len(found) < 100


def test_a_log_gives_its_last_lines_across_the_turn_of_files(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    log = LineLog(path)
    line = b"y" * 1000 + b"\n"
    for _ in range(MAX_LOG_BYTES // len(line) + 1):
        log.write(line)
    log.write(b"last but one\nla")
    log.write(b"st")
    log.close()
    assert path.stat().st_size < MAX_LOG_BYTES
    assert [found.text for found in tail(path, 3)] == ["y" * 1000, "last but one", "last"]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("echo", ["/bin/sh", "/s"]),
        ("#!/usr/bin/env python3\nprint()", ["/usr/bin/env", "python3", "/s"]),
        ("#! /bin/bash -e\n", ["/bin/bash", "-e", "/s"]),
        ("#!\n", ["/bin/sh", "/s"]),
    ],
)
def test_the_interpreter_is_that_of_the_first_line(script: str, arguments: list[str]) -> None:
    assert interpreter_of(script, Path("/s")) == arguments
