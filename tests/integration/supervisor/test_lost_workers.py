"""Workers that die or freeze: another finishes, with one set of outputs, and no user code stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.supervisor.platform import Platform, is_gone, platform, until
from tests.servers import Running
from tidemill_common.contracts.invocation import Change
from tidemill_common.secrets import SecretRecord

pytestmark = pytest.mark.integration


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path, lease=timedelta(seconds=4)) as made:
        yield made


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end and never answer."""
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


def pid_in(path: Path) -> int:
    return int(path.read_text())


async def test_a_worker_killed_in_mid_run_is_replaced(around: Platform) -> None:
    folder = around.directory
    script = f"""
        echo $TIDEMILL_ATTEMPT > "$TMP_OUTPUT_DIR/out"
        [ $TIDEMILL_WORKER = w2 ] && exit 0
        sleep 600 & echo $! > {folder}/child
        setsid sh -c 'echo $$ > {folder}/escaped.new; mv {folder}/escaped.new {folder}/escaped; exec sleep 600' &
        while [ ! -e {folder}/escaped ]; do sleep 0.01; done
        echo $$ > {folder}/script.new; mv {folder}/script.new {folder}/script
        sleep 600
    """
    await around.define(script, output=[{"path": f"data/{around.name}/out"}])
    first = around.start_worker("w1")
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    await until((folder / "script").exists)
    first.kill()
    await until(lambda: all(is_gone(pid_in(folder / name)) for name in ("child", "escaped", "script")))
    assert list((folder / "work" / "w1").glob("*-1"))
    around.start_worker("w2")
    ended = await around.ended(invocation.id)
    assert (ended.change, ended.worker, ended.attempt) == (Change.SUCCEEDED, "w2", 2)
    assert await around.objects(f"data/{around.name}/out/") == [f"data/{around.name}/out/out"]
    await until(lambda: not (folder / "work" / "w1").exists())  # what the dead Worker left is removed, beside the work


async def test_an_output_is_not_written_again_after_a_kill_between_put_and_done(around: Platform) -> None:
    """The first Worker hangs in stage out: its second provider accepts connections and never answers."""
    never = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = never.sockets[0].getsockname()[1]
    hole = {"endpoint": f"http://127.0.0.1:{port}", "access_key": "a", "secret_key": "b"}
    await around.secrets.put(around.name, SecretRecord(providers={"s3.hole": hole}))
    here, there = {"path": f"data/{around.name}/out"}, {"path": "data/x", "storage_provider": "s3.hole"}
    script = 'echo same > "$TMP_OUTPUT_DIR/out"'
    await around.define(script, output=[here, there])
    first = around.start_worker("w1")
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    path = f"data/{around.name}/out/out"
    async with asyncio.timeout(60):
        while (written := await around.store.head(path)) is None:
            await asyncio.sleep(0.01)
    first.kill()
    never.close()
    await never.wait_closed()
    await around.define(script, output=[here])
    around.start_worker("w2")
    ended = await around.ended(invocation.id)
    again = await around.store.head(path)
    assert (ended.change, ended.attempt) == (Change.SUCCEEDED, 2)
    assert again is not None
    assert (again.modified, again.etag) == (written.modified, written.etag)


async def test_a_worker_that_was_frozen_gives_up_what_it_lost(around: Platform) -> None:
    folder = around.directory
    script = f"echo $$ > {folder}/$TIDEMILL_WORKER; [ $TIDEMILL_WORKER = w2 ] || sleep 600"
    await around.define(script)
    first = around.start_worker("w1")
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    await until(lambda: (folder / "w1").exists() and bool((folder / "w1").read_text()))
    os.kill(first.process.pid, signal.SIGSTOP)
    second = around.start_worker("w2")
    ended = await around.ended(invocation.id)
    os.kill(first.process.pid, signal.SIGCONT)
    assert (ended.change, ended.worker) == (Change.SUCCEEDED, "w2")
    await until(lambda: is_gone(pid_in(folder / "w1")))
    second.process.terminate()
    await second.ends()
    assert await around.waiting() == 0
    await around.define("exit 0")
    again = await around.ended((await around.upload(f"data/{around.name}/in/b", b"x")).id)
    assert (again.change, again.worker) == (Change.SUCCEEDED, "w1"), "its slot is free again"


async def test_an_attempt_survives_a_restart_of_the_bus(around: Platform, nats: Running) -> None:
    await around.define(
        f"touch {around.directory}/up; while [ ! -e {around.directory}/go ]; do sleep 0.01; done; echo on"
    )
    around.start_worker()
    invocation = await around.call(b"")
    await until((around.directory / "up").exists)
    nats.kill()
    (around.directory / "go").touch()
    await asyncio.to_thread(nats.start)
    ended = await around.ended(invocation.id)
    assert (ended.change, ended.result) == (Change.SUCCEEDED, b"on\n")
    await around.nothing_waits()
