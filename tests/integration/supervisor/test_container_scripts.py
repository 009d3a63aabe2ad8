"""Scripts run through the runner, as process 1 of its own namespaces, in every shell that images have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.integration.supervisor.user_container import (
    CAN_UNSHARE,
    IMAGE_ENVIRONMENT,
    SHELLS,
    UserContainer,
    user_container,
)
from tests.unit.supervisor.scripts_suite import MINUTE, QUICK, Bench, ScriptsSuite, appears
from tidemill_common import runner
from tidemill_common.contracts.invocation import Reason
from tidemill_common.errors import UnavailableError
from tidemill_common.runner import ENDED, Answer, Ended, Failed, Started, runner_command, script_file
from tidemill_supervisor.channel import Channel
from tidemill_supervisor.container import ContainerScripts
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.execution import Limits
from tidemill_supervisor.ports import Command, ContainerEndedError, NoContainerError
from tidemill_supervisor.workspace import own_directory

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CAN_UNSHARE, reason="needs root, for namespaces"),
]
A = TypeVar("A", Started, Ended)
OOM = ContainerEndedError(Reason.OUT_OF_MEMORY, "OOMKilled: it had 512Mi")


async def oom() -> ContainerEndedError:
    return OOM


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "w1"
    made.mkdir()
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    return made


@pytest.fixture(autouse=True)
def _files_for_everybody() -> Any:
    before = os.umask(0)
    yield
    os.umask(before)


class ContainerBench(Bench):
    """A bench that knows its container."""

    container: UserContainer
    end: Callable[[], None]
    """Close the scripts, once."""


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[ContainerBench]:
    with user_container(directory, **options) as container, ExitStack() as stack:
        scripts = stack.enter_context(closing(ContainerScripts(directory, oom)))
        async with asyncio.timeout(60):
            await scripts.ready()
        made = ContainerBench(directory, scripts, proc=container.proc)
        made.container, made.end = container, stack.close
        yield made


@pytest.fixture
async def bench(directory: Path, shell: tuple[str, ...]) -> AsyncIterator[ContainerBench]:
    async with opened(directory, shell=shell) as made:
        yield made
        made.end()
        assert await made.container.ends() == 0, "it ends with its supervisor, and well"


@pytest.fixture(params=list(SHELLS.values()), ids=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestContainerScripts(ScriptsSuite):
    """The suite, and what only a container has."""

    async def test_the_image_has_its_say_in_the_environment(self, bench: ContainerBench) -> None:
        script = "#!/usr/bin/env python3\nimport os, json\nprint(json.dumps(dict(os.environ)))"
        await bench.run(script, OWN="1")
        seen = json.loads(bench.written)
        asked = {"OWN", "TIDEMILL_MARK", "TIDEMILL_INVOCATION_ID", "TIDEMILL_ATTEMPT", "TMP_OUTPUT_DIR"}
        assert {name: seen[name] for name in IMAGE_ENVIRONMENT} == IMAGE_ENVIRONMENT
        assert set(seen) - asked - set(IMAGE_ENVIRONMENT) <= {"PWD", "_", "LC_CTYPE"}

    async def test_the_user_wins_over_the_image(self, bench: ContainerBench) -> None:
        await bench.run('echo "$IMAGE_SAYS $LANG"', IMAGE_SAYS="hello", LANG="C.UTF-8")
        assert bench.written == b"hello C.UTF-8\n"

    async def test_a_script_that_kills_all_it_can_reach_has_ended(self, bench: ContainerBench) -> None:
        async with asyncio.timeout(60):
            outcome = await bench.run("kill -KILL -1; exit 0")
        assert (outcome.reason, outcome.signal) == (Reason.SCRIPT_KILLED, signal.SIGKILL)
        assert (await bench.run("exit 3", name="i2")).exit_code == 3

    async def test_a_script_cannot_end_the_runner(self, bench: ContainerBench) -> None:
        await bench.run("kill -KILL 1; kill -TERM 1; kill -INT 1; kill -HUP 1; kill -PIPE 1; sleep 0.1")
        assert (await bench.run("exit 3", name="i2")).exit_code == 3

    async def test_noise_on_the_answers_harms_nobody(self, bench: ContainerBench) -> None:
        script = "head -c 300000 /dev/urandom > ../runner/answers; echo > ../runner/answers; exit 5"
        assert (await bench.run(script)).exit_code == 5
        assert (await bench.run("exit 3", name="i2")).exit_code == 3

    async def test_a_hundred_megabytes_of_output_neither_block_nor_stay(self, bench: ContainerBench) -> None:
        seen = 0

        def count(chunk: bytes) -> None:
            nonlocal seen
            seen += len(chunk)

        at = bench.place("head -c 100000000 /dev/zero")
        command = Command(arguments=["/bin/sh", str(at.script)], environment={}, directory=at.root)
        running = bench.scripts.start(command, at, count)
        assert await running.wait() == 0
        await running.clear()
        assert seen == 100_000_000

    async def test_no_dead_process_stays(self, bench: ContainerBench) -> None:
        for number in range(10):
            await bench.run("for i in 1 2 3 4; do setsid sleep 60 & done; exit 0", name=f"i{number}")
        await bench.run("exit 0", name="last")
        states = [path.read_text().rpartition(")")[2].split()[0] for path in bench.container.proc.glob("[0-9]*/stat")]
        assert len(states) < 10

    async def test_nothing_of_a_run_stays_in_the_worker_directory(self, bench: ContainerBench) -> None:
        at = bench.place("exit 0")
        await bench.run_in(at, "exit 0", QUICK, {})
        await bench.scripts.wipe(at.root)
        assert sorted(path.name for path in bench.root.rglob("*")) == ["answers", "commands", "runner"]


class TestWithoutTools:
    """An image that has nothing but a shell."""

    @pytest.fixture
    async def bench(self, directory: Path, shell: tuple[str, ...]) -> AsyncIterator[ContainerBench]:
        if shell[0] == "busybox":
            pytest.skip("it brings its tools")
        async with opened(directory, shell=shell, environment={"PATH": "/nowhere"}) as made:
            yield made

    async def test_scripts_run_and_end(self, bench: ContainerBench) -> None:
        assert (await bench.run("echo hello; exit 3")).exit_code == 3
        assert bench.written == b"hello\n"

    async def test_a_timeout_lets_the_script_end_in_order(self, bench: ContainerBench) -> None:
        script = "trap 'echo bye; exit 9' TERM; : > ready; while true; do :; done"
        outcome = await bench.run_late(script, Limits(timeout=MINUTE, grace=MINUTE))
        assert (outcome.reason, outcome.exit_code) == (Reason.TIMEOUT, 9)

    async def test_what_a_script_leaves_behind_is_gone(self, bench: ContainerBench) -> None:
        await bench.run("/bin/sleep 60 & echo $! > child; exec /bin/true")
        assert bench.is_gone(bench.pid_from("child"))

    async def test_one_of_several_scripts_is_stopped_alone(self, bench: ContainerBench) -> None:
        long = asyncio.create_task(bench.run("while [ ! -e go ]; do /bin/sleep 0.01; done; exit 6", name="i2"))
        script = "trap '' TERM; /usr/bin/setsid /bin/sleep 60 & echo $! > child; : > ready; while true; do :; done"
        outcome = await bench.run_late(script, Limits(timeout=MINUTE, grace=timedelta(milliseconds=200)))
        assert (outcome.reason, outcome.signal) == (Reason.TIMEOUT, signal.SIGKILL)
        assert bench.is_gone(bench.pid_from("child"))
        (bench.root / "i2-1" / "go").touch()
        assert (await long).exit_code == 6

    async def test_workspaces_are_wiped(self, bench: ContainerBench) -> None:
        at = bench.place("echo x > output/file")
        await bench.run_in(at, "", QUICK, {})
        await bench.scripts.wipe(at.root)
        assert not at.root.exists()


async def test_user_code_may_run_as_any_user(directory: Path) -> None:
    async with opened(directory, user=12345) as bench:
        script = "umask 077; mkdir output/own; echo mine > output/own/file; cat script event; rm script; exit 4"
        assert (await bench.run(script)).exit_code == 4
        assert (directory / "i1-1" / "output" / "own").stat().st_mode & 0o777 == 0o777
        assert (directory / "i1-1" / "output" / "own" / "file").stat().st_mode & 0o666 == 0o666
        assert (directory / "i1-1" / "output" / "own" / "file").stat().st_uid == 12345
        await bench.scripts.wipe(directory / "i1-1")
        assert not (directory / "i1-1").exists()


async def test_death_of_the_container_ends_what_ran_there_with_its_cause(directory: Path) -> None:
    async with opened(directory) as bench:
        run = asyncio.create_task(bench.run("touch up; sleep 60"))
        await appears(directory / "i1-1" / "up", empty=True)
        os.kill(bench.container.init, signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(ContainerEndedError, match="it had 512Mi") as caught:
                await run
            assert caught.value.reason is Reason.OUT_OF_MEMORY
            assert await bench.scripts.over() == "its container has ended"
        with pytest.raises(NoContainerError):
            await bench.run("exit 0", name="i2")
        await bench.scripts.wipe(directory / "i1-1")
        assert not (directory / "i1-1").exists()


async def test_death_of_the_container_is_seen_while_nothing_runs(directory: Path) -> None:
    async with opened(directory) as bench:
        os.kill(bench.container.init, signal.SIGKILL)
        async with asyncio.timeout(30):
            await bench.scripts.over()


async def test_a_workspace_that_resists_is_the_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(directory, environment={"PATH": "/nowhere"}) as bench:
        at = bench.place("exit 0")
        monkeypatch.setattr("tidemill_supervisor.container.remove_tree", lambda path: None)
        await bench.scripts.wipe(at.root)
        assert await bench.scripts.over() == "i1-1 could not be removed"
        with pytest.raises(NoContainerError):
            await bench.run("exit 0", name="i2")


async def test_a_container_that_does_not_come_is_missed(directory: Path) -> None:
    with (
        closing(ContainerScripts(directory, oom, timeout=timedelta(milliseconds=50))) as scripts,
        pytest.raises(UnavailableError, match="not there after"),
    ):
        await scripts.ready()


async def test_a_container_may_come_first(directory: Path, shell: tuple[str, ...]) -> None:
    with user_container(directory, shell):
        await asyncio.sleep(0.1)
        with closing(ContainerScripts(directory, oom)) as scripts:
            async with asyncio.timeout(60):
                await scripts.ready()


async def test_a_container_that_comes_too_late_ends(tmp_path: Path, shell: tuple[str, ...]) -> None:
    with own_directory(tmp_path, "w1", is_shared=True) as directory:
        ContainerScripts(directory, oom).close()
    assert sorted(path.name for path in directory.iterdir()) == [".lock", ENDED]
    with user_container(directory, shell) as container:
        assert await container.ends() == 0


async def test_a_container_that_nobody_waits_for_ends_on_sigterm(directory: Path, shell: tuple[str, ...]) -> None:
    with user_container(directory, shell) as container:
        await container.catches(signal.SIGTERM)
        os.kill(container.init, signal.SIGTERM)
        assert await container.ends() == 0


async def test_sigterm_lets_the_script_that_runs_be(directory: Path, shell: tuple[str, ...]) -> None:
    async with opened(directory, shell=shell) as bench:
        run = asyncio.create_task(bench.run("touch up; while [ ! -e go ]; do sleep 0.01; done; exit 6"))
        await appears(directory / "i1-1" / "up", empty=True)
        os.kill(bench.container.init, signal.SIGTERM)
        await asyncio.sleep(0.1)
        (directory / "i1-1" / "go").touch()
        outcome: Outcome = await run
        assert outcome.exit_code == 6


async def test_the_container_ends_when_its_supervisor_is_gone(directory: Path, shell: tuple[str, ...]) -> None:
    async with opened(directory, shell=shell) as bench:
        at = bench.place("sleep 60")
        command = Command(arguments=["/bin/sleep", "60"], environment={}, directory=at.root)
        bench.scripts.start(command, at, bench.written.extend)
        await asyncio.sleep(0.1)
        bench.end()
        assert await bench.container.ends() == 0


async def test_a_signal_that_comes_before_the_script_is_its_end(directory: Path, shell: tuple[str, ...]) -> None:
    """What shall become it has said that it starts, and waits here for somebody who reads its output."""
    answers: list[Answer] = []
    with user_container(directory, shell), closing(Channel(directory, answer=answers.append, lost=lambda: None)) as to:
        to.write_script(1, script_file(["/bin/sleep", "60"], environment={}, defaults={}, directory=str(directory)))
        os.mkfifo(directory / "runner" / "1.out")
        to.send(runner.run(1))
        started = await answered(answers, Started)
        to.send(runner.signal(1, "TERM", started.pid, "i1-1"))
        ended = await answered(answers, Ended)
        assert (ended.exit_code, answers[2:]) == (128 + signal.SIGTERM, [ended])


async def answered(answers: list[Answer], kind: type[A]) -> A:
    """The first answer of this kind."""
    async with asyncio.timeout(60):
        while not (found := [answer for answer in answers if isinstance(answer, kind)]):
            assert not [answer for answer in answers if isinstance(answer, Failed)], answers
            await asyncio.sleep(0.005)
    return found[0]


def test_the_runner_refuses_to_be_anything_but_process_1(tmp_path: Path) -> None:
    ended = subprocess.run(runner_command(str(tmp_path)), capture_output=True, text=True, check=False)
    assert (ended.returncode, "must be process 1" in ended.stderr) == (70, True)
