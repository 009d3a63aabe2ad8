"""Ends user code when its Worker is killed: a tiny shell that waits for our end of a pipe to close.

`kill -9` runs no code of ours, and PR_SET_PDEATHSIG reaches only the first process of a script. The shell outlives us,
knows the process groups of running scripts, and finds by its mark what left them.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import Final

_SCRIPT: Final = """
trap '' HUP INT TERM
mark=$1 groups=' '
while read -r what group; do
  case $what in
    watch) groups="$groups$group " ;;
    unwatch) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
  esac
done
for group in $groups; do kill -KILL "-$group"; done
round=0
while [ $round -lt 20 ]; do
  found=$(grep -ls "TIDEMILL_MARK=$mark" /proc/[0-9]*/environ)
  [ -n "$found" ] || exit 0
  for file in $found; do pid=${file#/proc/}; kill -KILL "${pid%/environ}"; done
  round=$((round + 1))
done
"""


class Guardian:
    """The shell, and what it knows."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._groups: set[int] = set()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Kill this process group when we are gone."""
        self._groups.add(group)
        self._tell(f"watch {group}\n")

    def unwatch(self, group: int) -> None:
        """This process group has ended."""
        self._groups.discard(group)
        self._tell(f"unwatch {group}\n")

    def close(self) -> None:
        """Let it end; returns when it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # somebody killed it; or we closed it
            self._process.stdin.write(line.encode())
            return
        if self._process.poll() is None or self._process.stdin.closed:
            return
        self._process.stdin.close()
        self._process = self._start()
        for group in self._groups:
            self._tell(f"watch {group}\n")

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "tidemill-guardian", self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
