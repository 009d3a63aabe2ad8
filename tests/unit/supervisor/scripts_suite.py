"""What every `Scripts` does, wherever user code runs: exit codes, limits, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.supervisor.builders import MARK, place
from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.execution import Limits, execute
from tidemill_supervisor.ports import Command, Scripts
from tidemill_supervisor.processes import interpreter_of
from tidemill_supervisor.workspace import furnish

MINUTE = timedelta(minutes=1)
QUICK = Limits(grace=timedelta(milliseconds=300), scan_interval=timedelta(milliseconds=20))


class Bench:
    """Runs scripts in workspaces below `root`."""

    def __init__(self, root: Path, scripts: Scripts, *, proc: Path = Path("/proc")) -> None:
        self.root = root
        self.scripts = scripts
        self.written = bytearray()
        self._proc = proc
        """As user code sees it."""

    def place(self, script: str, name: str = "i1") -> Place:
        """A workspace with everything in it."""
        made = place(self.root, invocation_id=name, mark=MARK)
        furnish(made, script=script, event=b"")
        return made

    async def run(self, script: str, limits: Limits = QUICK, *, name: str = "i1", **variables: str) -> Outcome:
        """Run one to its end."""
        return await self.run_in(self.place(script, name), script, limits, variables)

    async def run_late(self, script: str, limits: Limits) -> Outcome:
        """Run one whose time is over when it has made the file `ready`."""
        assert limits.timeout is not None
        run = asyncio.create_task(self.run(script, limits))
        await appears(self.root / "i1-1" / "ready", empty=True)
        leap(limits.timeout)
        return await run

    async def run_in(self, at: Place, script: str, limits: Limits, variables: Mapping[str, str]) -> Outcome:
        """Run one in a workspace that is there."""
        environment = {
            "TIDEMILL_MARK": at.mark,
            "TIDEMILL_INVOCATION_ID": at.root.name.rpartition("-")[0],
            "TIDEMILL_ATTEMPT": str(at.attempt),
            "TMP_OUTPUT_DIR": str(at.output),
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
        """What a script wrote to a file of its workspace."""
        return int((self.root / f"{name}-1" / file).read_text())

    def is_gone(self, pid: int) -> bool:
        """Whether a process of user code has ended."""
        try:
            return (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True


async def appears(path: Path, *, empty: bool = False) -> None:
    """Return when a script has written a file."""
    async with asyncio.timeout(60):
        while not path.exists() or not (empty or path.read_text().strip()):
            await asyncio.sleep(0.002)


def leap(by: timedelta) -> None:
    """Let the loop's clock jump: what waits for that long waits no more. A script has all the time that it needs."""
    loop = asyncio.get_running_loop()
    now, ahead = loop.time, by.total_seconds()
    loop.time = lambda: now() + ahead  # type: ignore[method-assign]  # a test's loop is its own


class ScriptsSuite:
    """The behaviour; a fixture `bench` says of what."""

    @pytest.mark.parametrize(
        ("script", "reason", "exit_code", "number"),
        [
            ("exit 0", Reason.COMPLETED, 0, None),
            ("exit 7", Reason.SCRIPT_FAILED, 7, None),
            ("exit 127", Reason.SCRIPT_FAILED, 127, None),
            ("exit 255", Reason.SCRIPT_FAILED, 255, None),
            ("kill -SEGV $$", Reason.SCRIPT_KILLED, 139, signal.SIGSEGV),
            ("kill -KILL $$", Reason.SCRIPT_KILLED, 137, signal.SIGKILL),
            ("sh -c 'kill -KILL $$'; exit $?", Reason.SCRIPT_KILLED, 137, signal.SIGKILL),
            ("#!/bin/sh -e\nfalse\nexit 0", Reason.SCRIPT_FAILED, 1, None),
            ("#!/usr/bin/env python3\nraise SystemExit(5)", Reason.SCRIPT_FAILED, 5, None),
            ("#!/no/such/thing\nexit 0", Reason.START_FAILED, None, None),
            ("#!/usr/bin/env no-such-thing\nexit 0", Reason.START_FAILED, None, None),
            ("#!/tmp\nexit 0", Reason.START_FAILED, None, None),
            ("#!\nexit 3", Reason.SCRIPT_FAILED, 3, None),
            ("", Reason.COMPLETED, 0, None),
        ],
    )
    async def test_every_way_to_end_is_told_apart(
        self, bench: Bench, script: str, reason: Reason, exit_code: int | None, number: int | None
    ) -> None:
        outcome = await bench.run(script)
        assert (outcome.reason, outcome.exit_code, outcome.signal) == (reason, exit_code, number)

    async def test_an_environment_that_cannot_be_is_a_start_that_failed(self, bench: Bench) -> None:
        assert (await bench.run("exit 0", LARGE="x" * 200_000)).reason is Reason.START_FAILED

    async def test_an_environment_that_is_too_much_together_is_a_start_that_failed(self, bench: Bench) -> None:
        many = {f"LARGE{number}": "x" * 100_000 for number in range(40)}
        outcome = await bench.run_in(bench.place("exit 0"), "exit 0", QUICK, many)
        assert outcome.reason is Reason.START_FAILED

    async def test_a_script_runs_after_one_that_could_not_start(self, bench: Bench) -> None:
        await bench.run("#!/no/such/thing", name="i1")
        assert (await bench.run("exit 4", name="i2")).exit_code == 4

    async def test_output_and_errors_arrive_in_order_and_unchanged(self, bench: Bench) -> None:
        await bench.run("echo one; echo two >&2; printf '\\377\\000three'; echo four >/dev/stderr")
        assert bytes(bench.written) == b"one\ntwo\n\xff\x00threefour\n"

    async def test_a_script_has_no_input_and_runs_in_its_workspace(self, bench: Bench) -> None:
        await bench.run("cat; pwd; ls")
        written = bench.written.decode().split()
        assert written == [str(bench.root / "i1-1"), "event", "input", "output", "script", "tmp"]

    async def test_a_timeout_ends_the_script_and_all_its_processes(self, bench: Bench) -> None:
        script = """
            trap '' TERM
            (trap '' TERM; sleep 60) & echo $! > child
            setsid sh -c 'trap "" TERM; echo $$ > escaped; sleep 60' &
            while [ ! -s escaped ]; do sleep 0.01; done
            touch ready
            while true; do sleep 0.1; done
        """
        outcome = await bench.run_late(script, Limits(timeout=MINUTE, grace=timedelta(milliseconds=50)))
        assert (outcome.reason, outcome.signal) == (Reason.TIMEOUT, signal.SIGKILL)
        assert bench.is_gone(bench.pid_from("child"))
        assert bench.is_gone(bench.pid_from("escaped"))

    async def test_a_timeout_lets_the_script_end_in_order(self, bench: Bench) -> None:
        script = "trap 'echo bye; exit 9' TERM; touch ready; while true; do sleep 0.01; done"
        outcome = await bench.run_late(script, Limits(timeout=MINUTE, grace=MINUTE))
        assert (outcome.reason, outcome.exit_code) == (Reason.TIMEOUT, 9)
        assert bench.written.endswith(b"bye\n")

    async def test_a_script_that_has_no_time_left_is_ended(self, bench: Bench) -> None:
        outcome = await bench.run("while true; do sleep 0.01; done", Limits(timeout=timedelta(0)))
        assert outcome.reason is Reason.TIMEOUT

    async def test_what_a_script_leaves_behind_is_gone(self, bench: Bench) -> None:
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
        assert all(bench.is_gone(bench.pid_from(name)) for name in ("child", "session", "orphan", "bare"))

    async def test_one_script_ends_without_touching_another(self, bench: Bench) -> None:
        script = """
            (setsid sh -c 'touch up; while [ ! -e go ]; do sleep 0.01; done; touch went' &)
            while [ ! -e went ]; do sleep 0.01; done
        """
        limits = Limits(timeout=MINUTE, grace=timedelta())
        long = asyncio.create_task(bench.run(script, limits, name="i2"))
        await appears(bench.root / "i2-1" / "up", empty=True)
        await bench.run("setsid sleep 60 & echo $! > child; sleep 60 & echo $! > group; (sleep 60 & echo $! > orphan)")
        assert all(bench.is_gone(bench.pid_from(name)) for name in ("child", "group", "orphan"))
        (bench.root / "i2-1" / "go").touch()
        assert (await long).reason is Reason.COMPLETED

    async def test_four_scripts_run_at_the_same_time(self, bench: Bench) -> None:
        script = f"touch {bench.root}/up-$N; while [ $(ls {bench.root} | grep -c up-) -lt 4 ]; do sleep 0.01; done"
        runs = [bench.run(f"{script}; exit $N", name=f"i{number}", N=str(number)) for number in range(4)]
        bench.root.chmod(0o777)
        async with asyncio.timeout(60):
            assert [outcome.exit_code for outcome in await asyncio.gather(*runs)] == [0, 1, 2, 3]

    async def test_one_of_several_scripts_is_stopped_alone(self, bench: Bench) -> None:
        long = asyncio.create_task(bench.run("while [ ! -e go ]; do sleep 0.01; done; exit 6", name="i2"))
        outcome = await bench.run("sleep 60", Limits(timeout=timedelta(milliseconds=300), grace=MINUTE))
        assert (outcome.reason, outcome.signal) == (Reason.TIMEOUT, signal.SIGTERM)
        (bench.root / "i2-1" / "go").touch()
        assert (await long).exit_code == 6

    async def test_cancelling_ends_the_script_before_it_returns(self, bench: Bench) -> None:
        run = asyncio.create_task(bench.run("echo $$ > pid; setsid sleep 60 & echo $! > child; sleep 60"))
        await appears(bench.root / "i1-1" / "child")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert bench.is_gone(bench.pid_from("pid"))
        assert bench.is_gone(bench.pid_from("child"))

    async def test_cancelling_lets_the_script_end_in_order(self, bench: Bench) -> None:
        script = "trap 'touch bye; exit' TERM; echo up > up; while true; do sleep 0.01; done"
        run = asyncio.create_task(bench.run(script, Limits(grace=MINUTE)))
        await appears(bench.root / "i1-1" / "up")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (bench.root / "i1-1" / "bye").exists()

    async def test_cancelling_at_once_ends_it_as_well(self, bench: Bench) -> None:
        run = asyncio.create_task(bench.run("sleep 60"))
        await asyncio.sleep(0)
        run.cancel()
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await run

    async def test_a_workspace_that_grows_too_large_ends_the_script(self, bench: Bench) -> None:
        script = "i=0; while true; do head -c 40000 /dev/zero > output/$i; i=$((i+1)); sleep 0.005; done"
        limits = Limits(disk_bytes=200_000, scan_interval=timedelta(milliseconds=10))
        assert (await bench.run(script, limits)).reason is Reason.DISK_LIMIT

    async def test_a_file_beyond_the_limit_ends_the_script(self, bench: Bench) -> None:
        script = """
            while [ "$(ulimit -f)" = unlimited ]; do sleep 0.01; done # a process is limited after its start
            exec head -c 900000 /dev/zero > output/large
        """
        outcome = await bench.run(script, Limits(disk_bytes=200_000))
        assert outcome.reason is Reason.DISK_LIMIT
        assert (bench.root / "i1-1" / "output" / "large").stat().st_size <= 200_000

    async def test_no_core_is_left_and_nothing_of_ours_is_open(self, bench: Bench) -> None:
        await bench.run("ulimit -c; ls /proc/self/fd")
        assert bench.written.decode().split() == ["0", "0", "1", "2", "3"]

    async def test_a_script_may_close_its_output_and_go_on(self, bench: Bench) -> None:
        outcome = await bench.run("exec >/dev/null 2>&1; sleep 1.5; exit 8")
        assert outcome.exit_code == 8

    async def test_the_environment_is_what_was_asked_for(self, bench: Bench) -> None:
        wanted = {
            "PLAIN": "value",
            "EMPTY": "",
            "LINES": "one\n\ntwo\n",
            "QUOTES": """it's "quoted" `date` $(date) $HOME \\ \\n""",
            "BYTES": b"\xff\xfe\x81".decode(errors="surrogateescape"),
            "UMLAUT": "äöü €",
            "IFS": "x",
            "UID": "4711",
            "OPTIND": "none",
            "a.b-c": "no identifier",
            "EVENT": '{"key": "' + "v" * 100_000 + '"}',
        }
        script = "#!/usr/bin/env python3\nimport os, sys\nsys.stdout.buffer.write(b'\\0'.join(os.environb[k] for k in "
        script += f"{[os.fsencode(name) for name in wanted]!r}))"
        outcome = await bench.run_in(bench.place(script), script, QUICK, wanted)
        assert outcome.reason is Reason.COMPLETED
        assert bytes(bench.written).split(b"\0") == [os.fsencode(value) for value in wanted.values()]

    async def test_workspaces_are_wiped_between_runs(self, bench: Bench) -> None:
        for number in range(5):
            script = "mkdir -p output/a/b; chmod 0 output/a/b; ln -s / output/root; touch ../left-$$; exit 0"
            at = bench.place(script, f"i{number}")
            assert (await bench.run_in(at, script, QUICK, {})).reason is Reason.COMPLETED
            await bench.scripts.wipe(at.root)
            assert not at.root.exists()
        assert Path("/etc/passwd").exists()
