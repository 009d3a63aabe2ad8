"""Scripts in a container of a real Docker daemon, in an image that has busybox and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.testbed.docker import BUSYBOX, DockerHost
from tests.unit.supervisor.scripts_suite import Bench
from tidemill_common.contracts.invocation import Reason
from tidemill_common.runner import runner_command
from tidemill_supervisor.container import ContainerScripts
from tidemill_supervisor.execution import Limits
from tidemill_supervisor.ports import ContainerEndedError

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


async def unexplained() -> ContainerEndedError:
    return ContainerEndedError(Reason.CONTAINER_ENDED, "nobody said why")


@pytest.fixture(params=["0:0", "1234:1234"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _files_for_everybody() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
async def bench(docker_host: DockerHost, tmp_path: Path, user: str) -> AsyncIterator[Bench]:
    directory = tmp_path / "w1"
    directory.mkdir()
    directory.chmod(0o755)
    limits = ("--network=none", "--memory=64m", f"--user={user}", "--cap-drop=ALL")
    with closing(ContainerScripts(directory, unexplained)) as scripts:
        name = docker_host.docker(
            *("run", "-d", *limits, "-v", f"{directory}:{directory}", "--entrypoint=/bin/sh", BUSYBOX),
            *runner_command(str(directory))[1:],
        )
        try:
            async with asyncio.timeout(60):
                await scripts.ready()
            yield Bench(directory, scripts)
        finally:
            docker_host.docker("rm", "-f", name)


async def test_its_outputs_can_be_read_and_removed_whoever_wrote_them(bench: Bench, user: str) -> None:
    script = "umask 077; mkdir output/a; echo x > output/a/file; echo y > output/.hidden; ln -s /etc output/etc; id -u"
    assert (await bench.run(script)).reason is Reason.COMPLETED
    assert bench.written.decode().strip() == user.partition(":")[0]
    output = bench.root / "i1-1" / "output"
    assert output.joinpath("a").stat().st_mode & 0o777 == 0o777
    assert all((output / name).stat().st_mode & 0o666 == 0o666 for name in ("a/file", ".hidden"))
    await bench.scripts.wipe(bench.root / "i1-1")
    assert [path.name for path in bench.root.iterdir()] == ["runner"]


async def test_the_kernels_kill_for_memory_is_told_from_others(bench: Bench) -> None:
    outcome = await bench.run("x=a; while :; do x=$x$x; done")
    assert (outcome.reason, outcome.signal) == (Reason.OUT_OF_MEMORY, signal.SIGKILL)
    assert (await bench.run("kill -KILL $$", name="i2")).reason is Reason.SCRIPT_KILLED


async def test_nothing_outlives_its_script(bench: Bench) -> None:
    limits = Limits(timeout=timedelta(seconds=1), grace=timedelta(milliseconds=200))
    outcome = await bench.run("trap '' TERM; setsid sleep 100 & while :; do sleep 1; done", limits)
    assert outcome.reason is Reason.TIMEOUT
    await bench.run("ps -o args | grep -c '^sleep 100' ; exit 0", name="i2")
    assert bench.written.decode().split()[-1] == "0"


async def test_the_image_says_what_path_is(bench: Bench) -> None:
    await bench.run('echo "$PATH"')
    assert bench.written.decode().strip() not in ("", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
