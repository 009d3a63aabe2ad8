"""The parts of the testbed's node, to be killed one by one: only where the cluster is the testbed's own.

$TIDEMILL_TESTBED_STATE and $TIDEMILL_TESTBED_CACHE are the folders that its `up.sh` was given.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import missing

_UP: Final = Path(__file__).parents[1] / "testbed" / "kubernetes" / "up.sh"
_PATIENCE: Final = 30.0
"""Seconds for which containerd may have no connection to a shim."""


@dataclass(frozen=True, slots=True)
class Testbed:
    """A node whose processes run on this machine."""

    __test__ = False
    """For pytest."""

    state: Path
    cache: Path

    def kill(self, part: str) -> None:
        """kill -9 of `etcd`, `apiserver`, `containerd`, `kubelet`, …"""
        pid, started = (self.state / "pids" / part).read_text().split()
        assert _start_time(int(pid)) == started, f"{part} is not running"
        os.kill(int(pid), signal.SIGKILL)

    def up(self) -> None:
        """Start what was killed; returns when the node is ready again."""
        done = subprocess.run([_UP, self.state, self.cache], capture_output=True, check=False, text=True, timeout=180)
        assert done.returncode == 0, done.stderr[-2000:]

    def kill_container(self, container: str) -> None:
        """kill -9 of a container's first process, by the id in a pod's status (`containerd://…`).

        containerd may just be connecting to the pod's shim anew, and is asked again then.
        """
        command = ["ctr", "--address", str(self.state / "containerd" / "sock"), "--namespace", "k8s.io"]
        name = container.removeprefix("containerd://")
        command += ["tasks", "kill", "--signal", "SIGKILL", name]
        deadline = time.monotonic() + _PATIENCE
        while True:
            done = subprocess.run(command, capture_output=True, check=False, text=True)
            if done.returncode == 0 or "not found" in done.stderr:
                return
            assert "ttrpc: closed" in done.stderr, done.stderr
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.2)


def own_testbed() -> Testbed:
    """The testbed of this run; skips the test where the cluster is another."""
    state, cache = (os.environ.get(f"TIDEMILL_TESTBED_{name}", "") for name in ("STATE", "CACHE"))
    if not (state and cache and shutil.which("ctr")):
        missing("a node to kill parts of: the testbed's own ($TIDEMILL_TESTBED_STATE, $TIDEMILL_TESTBED_CACHE)")
    return Testbed(Path(state), Path(cache))


def _start_time(pid: int) -> str:
    """As env.sh reads it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
