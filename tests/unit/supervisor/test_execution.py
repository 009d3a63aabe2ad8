"""Scripts run as real processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.supervisor.builders import MARK
from tests.unit.supervisor.scripts_suite import Bench, ScriptsSuite
from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor import processes
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.processes import ProcessScripts


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    made = Guardian(MARK)
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, guardian: Guardian) -> Bench:
    return Bench(tmp_path, ProcessScripts(guardian))


class TestProcessScripts(ScriptsSuite):
    """The suite, in processes."""


def test_children_are_found_where_the_kernel_keeps_no_list_of_them() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert child.pid in processes._children_by_scan(os.getpid())
        assert set(processes._children_by_scan(os.getpid())) == set(processes._children())
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def child_from_before() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


async def test_children_from_before_are_left_alone(child_from_before: subprocess.Popen[bytes], bench: Bench) -> None:
    await bench.run("exit 0")
    assert child_from_before.poll() is None


async def test_a_guardian_that_was_killed_is_replaced(bench: Bench, guardian: Guardian) -> None:
    before = guardian.pid
    os.kill(before, signal.SIGKILL)
    while not bench.is_gone(before):
        await asyncio.sleep(0.002)
    assert (await bench.run("exit 0")).reason is Reason.COMPLETED
    assert guardian.pid != before


def test_the_guardian_ends_watched_groups_and_marked_processes_and_nothing_else() -> None:
    def sleeper(**environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/sleep", "60"], env=environment, start_new_session=True)

    guardian = Guardian(f"{MARK}-guardian")
    watched, unwatched, marked, other = (
        sleeper(),
        sleeper(),
        sleeper(TIDEMILL_MARK=f"{MARK}-guardian"),
        sleeper(TIDEMILL_MARK="n"),
    )
    for process in (watched, unwatched):
        guardian.watch(process.pid)
    guardian.unwatch(unwatched.pid)
    guardian.close()  # as the kernel does when we are killed
    try:
        assert (watched.wait(30), marked.wait(30)) == (-signal.SIGKILL, -signal.SIGKILL)
        assert (unwatched.poll(), other.poll()) == (None, None)
    finally:
        for process in (unwatched, other):
            process.kill()
            process.wait()
