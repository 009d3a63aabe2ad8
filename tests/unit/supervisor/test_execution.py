"""Scripts run as real processes: exit codes, limits, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.supervisor.builders import place
from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor import processes
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.execution import Limits, execute
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.ports import Command
from tidemill_supervisor.processes import ProcessScripts, interpreter_of
from tidemill_supervisor.workspace import furnish

QUICK = Limits(grace=timedelta(milliseconds=300), scan_interval=timedelta(milliseconds=20))


class Bench:
    """Runs scripts in a workspace of their own."""

    def __init__(self, root: Path) -> None:
        self.guardian = Guardian("m1")
        self.scripts = ProcessScripts(self.guardian)
        self.root = root
        self.written = bytearray()

    def place(self, script: str, name: str = "i1") -> Place:
        made = place(self.root, invocation_id=name)
        furnish(made, script=script, event=b"")
        return made

    async def run(self, script: str, limits: Limits = QUICK, *, name: str = "i1", **variables: str) -> Outcome:
        at = self.place(script, name)
        environment = {
            "PATH": os.defpath + ":/usr/local/bin",
            "TIDEMILL_MARK": "m1",
            "TIDEMILL_INVOCATION_ID": name,
            "TIDEMILL_ATTEMPT": "1",
            **variables,
        }
        command = Command(
            arguments=interpreter_of(script, at.script),
            environment=environment,
            directory=at.root,
            file_limit_bytes=limits.disk_bytes,
        )
        return await execute(self.scripts, command, at, limits, self.written.extend)

    def pid_from(self, file: str, name: str = "i1") -> int:
        return int((self.root / f"{name}-1" / file).read_text())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.guardian.close()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def appears(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists() or not path.read_text().strip():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("script", "reason", "exit_code", "number"),
    [
        ("exit 0", Reason.COMPLETED, 0, None),
        ("exit 7", Reason.SCRIPT_FAILED, 7, None),
        ("kill -SEGV $$", Reason.SCRIPT_KILLED, 139, signal.SIGSEGV),
        ("kill -KILL $$", Reason.SCRIPT_KILLED, 137, signal.SIGKILL),
        ("sh -c 'kill -KILL $$'; exit $?", Reason.SCRIPT_KILLED, 137, signal.SIGKILL),
        ("#!/bin/sh -e\nfalse\nexit 0", Reason.SCRIPT_FAILED, 1, None),
        ("#!/usr/bin/env python3\nraise SystemExit(5)", Reason.SCRIPT_FAILED, 5, None),
        ("#!/no/such/thing\nexit 0", Reason.START_FAILED, None, None),
        ("#!/usr/bin/env no-such-thing\nexit 0", Reason.START_FAILED, None, None),
        ("#!\nexit 3", Reason.SCRIPT_FAILED, 3, None),
        ("", Reason.COMPLETED, 0, None),
    ],
)
async def test_every_way_to_end_is_told_apart(
    bench: Bench, script: str, reason: Reason, exit_code: int | None, number: int | None
) -> None:
    outcome = await bench.run(script)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (reason, exit_code, number)


async def test_an_environment_that_cannot_be_is_a_start_that_failed(bench: Bench) -> None:
    outcome = await bench.run("exit 0", LARGE="x" * 200_000)
    assert outcome.reason is Reason.START_FAILED


async def test_output_and_errors_arrive_in_order_and_unchanged(bench: Bench) -> None:
    await bench.run("echo one; echo two >&2; printf '\\377\\000three'")
    assert bytes(bench.written) == b"one\ntwo\n\xff\x00three"


async def test_a_script_has_no_input_and_runs_in_its_workspace(bench: Bench) -> None:
    await bench.run("cat; pwd; ls")
    assert bench.written.decode().split() == [str(bench.root / "i1-1"), "event", "input", "output", "script", "tmp"]


async def test_a_timeout_ends_the_script_and_all_its_processes(bench: Bench) -> None:
    script = """
        trap '' TERM
        (trap '' TERM; sleep 60) & echo $! > child
        setsid sh -c 'trap "" TERM; echo $$ > escaped; sleep 60' &
        while [ ! -s escaped ]; do sleep 0.01; done
        touch ready
        while true; do sleep 0.1; done
    """
    limits = Limits(timeout=timedelta(milliseconds=400), grace=timedelta(milliseconds=50))
    outcome = await bench.run(script, limits)
    assert (outcome.reason, outcome.signal) == (Reason.TIMEOUT, signal.SIGKILL)
    assert is_gone(bench.pid_from("child"))
    assert is_gone(bench.pid_from("escaped"))


async def test_a_timeout_lets_the_script_end_in_order(bench: Bench) -> None:
    script = "trap 'echo bye; exit 9' TERM; while true; do sleep 0.01; done"
    outcome = await bench.run(script, Limits(timeout=timedelta(milliseconds=100)))
    assert (outcome.reason, outcome.exit_code) == (Reason.TIMEOUT, 9)
    assert bench.written.endswith(b"bye\n")


async def test_what_a_script_leaves_behind_is_gone(bench: Bench) -> None:
    script = """
        sleep 60 & echo $! > child
        setsid sleep 60 & echo $! > session
        setsid sh -c 'sleep 60 & echo $! > orphan.tmp; mv orphan.tmp orphan'
        env -i setsid sh -c 'echo $$ > bare.tmp; mv bare.tmp bare; exec sleep 60' &
        while [ ! -s bare ]; do sleep 0.01; done
        echo done
    """
    outcome = await bench.run(script)
    assert (outcome.reason, bytes(bench.written)) == (Reason.COMPLETED, b"done\n")
    assert all(is_gone(bench.pid_from(name)) for name in ("child", "session", "orphan", "bare"))


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


async def test_one_script_ends_without_touching_another(bench: Bench) -> None:
    script = """
        (setsid sh -c 'touch up; while [ ! -e go ]; do sleep 0.01; done; touch went' &)
        while [ ! -e went ]; do sleep 0.01; done
    """
    limits = Limits(timeout=timedelta(seconds=10), grace=timedelta())
    long = asyncio.create_task(bench.run(script, limits, name="i2"))
    await appears_file(bench.root / "i2-1" / "up")
    await bench.run("setsid sleep 60 & echo $! > child")
    assert is_gone(bench.pid_from("child"))
    (bench.root / "i2-1" / "go").touch()
    assert (await long).reason is Reason.COMPLETED


async def appears_file(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.002)


async def test_cancelling_ends_the_script_before_it_returns(bench: Bench) -> None:
    run = asyncio.create_task(bench.run("echo $$ > pid; setsid sleep 60 & echo $! > child; sleep 60"))
    await appears(bench.root / "i1-1" / "child")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert is_gone(bench.pid_from("pid"))
    assert is_gone(bench.pid_from("child"))


async def test_cancelling_lets_the_script_end_in_order(bench: Bench) -> None:
    run = asyncio.create_task(bench.run("trap 'touch bye; exit' TERM; echo up > up; while true; do sleep 0.01; done"))
    await appears(bench.root / "i1-1" / "up")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (bench.root / "i1-1" / "bye").exists()


async def test_a_workspace_that_grows_too_large_ends_the_script(bench: Bench) -> None:
    script = "i=0; while true; do head -c 40000 /dev/zero > output/$i; i=$((i+1)); sleep 0.005; done"
    limits = Limits(disk_bytes=200_000, scan_interval=timedelta(milliseconds=10))
    outcome = await bench.run(script, limits)
    assert outcome.reason is Reason.DISK_LIMIT


async def test_a_file_beyond_the_limit_ends_the_script(bench: Bench) -> None:
    script = "sleep 0.05; exec head -c 900000 /dev/zero > output/large"
    outcome = await bench.run(script, Limits(disk_bytes=200_000))
    assert outcome.reason is Reason.DISK_LIMIT
    assert (bench.root / "i1-1" / "output" / "large").stat().st_size <= 200_000


async def test_no_core_is_left_and_nothing_of_ours_is_open(bench: Bench) -> None:
    await bench.run("ulimit -c; ls /proc/self/fd")
    assert bench.written.decode().split() == ["0", "0", "1", "2", "3"]


async def test_a_guardian_that_was_killed_is_replaced(bench: Bench) -> None:
    before = bench.guardian.pid
    os.kill(before, signal.SIGKILL)
    while not is_gone(before):
        await asyncio.sleep(0.002)
    assert (await bench.run("exit 0")).reason is Reason.COMPLETED
    assert bench.guardian.pid != before


def test_the_guardian_ends_watched_groups_and_marked_processes_and_nothing_else() -> None:
    def sleeper(**environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/sleep", "60"], env=environment, start_new_session=True)

    guardian = Guardian("m" * 32)
    watched, unwatched, marked, other = (
        sleeper(),
        sleeper(),
        sleeper(TIDEMILL_MARK="m" * 32),
        sleeper(TIDEMILL_MARK="n"),
    )
    for process in (watched, unwatched):
        guardian.watch(process.pid)
    guardian.unwatch(unwatched.pid)
    guardian.close()  # as the kernel does when we are killed
    try:
        assert (watched.wait(5), marked.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)
        assert (unwatched.poll(), other.poll()) == (None, None)
    finally:
        for process in (unwatched, other):
            process.kill()
            process.wait()
