"""Whole Workers with a user container: what user code may see, and what becomes of both when one ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from tests.integration.supervisor.platform import KEYS, Platform, WorkerProcess, is_gone, platform, until
from tests.integration.supervisor.user_container import CAN_UNSHARE, IMAGE_ENVIRONMENT, UserContainer, user_container
from tests.servers import Running
from tidemill_common.contracts.invocation import Change, Reason

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CAN_UNSHARE, reason="needs root, for namespaces"),
]


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


@pytest.fixture
def containers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(around: Platform, containers: ExitStack, worker: str = "w1") -> tuple[WorkerProcess, UserContainer]:
    """A Worker and its container."""
    started = around.start_worker(worker, RUNNER="container")
    return started, containers.enter_context(user_container(around.directory / "work" / worker))


async def test_a_file_becomes_a_result_in_the_users_container(around: Platform, containers: ExitStack) -> None:
    script = """
        echo "$IMAGE_SAYS $PATH"
        tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/loud"
        chmod 0 "$TMP_OUTPUT_DIR/loud"
    """
    await around.define(script, output=[{"path": f"data/{around.name}/out"}], reuse=3)
    worker, container = start(around, containers)
    for number in range(3):
        invocation = await around.upload(f"data/{around.name}/in/{number}", b"hello %d" % number)
        ended = await around.ended(invocation.id)
        assert (ended.change, ended.log_tail) == (Change.SUCCEEDED, "it's mine {PATH}\n".format(**IMAGE_ENVIRONMENT))
        assert await around.store.get(f"data/{around.name}/out/loud") == b"HELLO %d" % number
    assert (await worker.ends(), await container.ends()) == (0, 0)
    assert {path.name for path in (around.directory / "work" / "w1").iterdir()} == {".lock", "ended"}


async def test_nothing_is_leased_before_the_container_is_there(around: Platform, containers: ExitStack) -> None:
    await around.define("exit 0")
    invocation = await around.call(b"")
    worker = around.start_worker("w1", RUNNER="container")
    await until(lambda: b"definition read" in worker.log.read_bytes())
    await asyncio.sleep(0.5)
    assert b"worker ready" not in worker.log.read_bytes()
    containers.enter_context(user_container(around.directory / "work" / "w1"))
    assert (await around.ended(invocation.id)).change is Change.SUCCEEDED


async def test_a_worker_whose_container_does_not_come_can_be_stopped(around: Platform, containers: ExitStack) -> None:
    await around.define("exit 0")
    worker = around.start_worker("w1", RUNNER="container")
    await until(lambda: b"definition read" in worker.log.read_bytes())
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert await containers.enter_context(user_container(around.directory / "work" / "w1")).ends() == 0


async def test_a_worker_without_container_says_so_after_a_while(around: Platform) -> None:
    await around.define("exit 0")
    assert await around.start_worker("w1", RUNNER="container", RUNNER_TIMEOUT="PT0.1S").ends() == 75


async def test_the_clusters_words_reach_the_invocation(around: Platform, containers: ExitStack) -> None:
    await around.define('touch "$HOME/../up"; sleep 60', retry={"attempts": 2, "backoff": "PT0.05S"})
    worker, container = start(around, containers)
    invocation = await around.call(b"x")
    await until((around.directory / "work" / "w1" / "up").exists)
    os.kill(container.init, signal.SIGKILL)
    cause = {"reason": "OOMKilled", "message": "it had 512Mi"}
    await around.bus.live.publish(f"live.cause.{around.name}.w1", json.dumps(cause).encode())
    assert await worker.ends() == 0
    await around.define("exit 0", retry={"attempts": 2, "backoff": "PT0.05S"})
    start(around, containers, "w2")
    changes = [record for record in await around.changes(invocation.id) if record.change is not Change.STARTED]
    assert [(record.change, record.reason, record.message) for record in changes] == [
        (Change.RETRIED, Reason.OUT_OF_MEMORY, "OOMKilled: it had 512Mi"),
        (Change.SUCCEEDED, Reason.COMPLETED, None),
    ]


async def test_a_death_that_nobody_explains_is_a_failure_all_the_same(around: Platform, containers: ExitStack) -> None:
    await around.define('touch "$HOME/../up"; sleep 60', retry={"attempts": 1})
    worker, container = start(around, containers)
    invocation = await around.call(b"x")
    await until((around.directory / "work" / "w1" / "up").exists)
    os.kill(container.init, signal.SIGKILL)
    ended = await around.ended(invocation.id)
    assert (ended.change, ended.reason) == (Change.DEAD, Reason.CONTAINER_ENDED)
    assert await worker.ends() == 0


async def test_death_of_an_idle_container_ends_the_worker_and_loses_nothing(
    around: Platform, containers: ExitStack
) -> None:
    await around.define("exit 0", retry={"attempts": 1})
    worker, container = start(around, containers)
    await worker.ready()
    init = container.init
    os.kill(init, signal.SIGKILL)
    await until(lambda: is_gone(init))  # else it may be given a script before the kill has reached it
    invocation = await around.call(b"x")
    assert await worker.ends() == 0
    start(around, containers, "w2")
    ended = await around.ended(invocation.id)
    assert ended.change is Change.SUCCEEDED, "no Attempt has failed, or there would be no other"


async def test_a_killed_supervisor_ends_its_container(around: Platform, containers: ExitStack) -> None:
    await around.define('touch "$HOME/../up"; sleep 60')
    worker, container = start(around, containers)
    await around.call(b"x")
    await until((around.directory / "work" / "w1" / "up").exists)
    worker.kill()
    assert await container.ends() == 0


async def test_draining_finishes_the_attempt_in_flight(around: Platform, containers: ExitStack) -> None:
    await around.define('touch "$HOME/../up"; sleep 0.5; echo finished')
    worker, container = start(around, containers)
    invocation = await around.call(b"x")
    await until((around.directory / "work" / "w1" / "up").exists)
    os.kill(container.init, signal.SIGTERM)
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.ends(), await container.ends()) == (0, 0)
    assert (await around.ended(invocation.id)).result == b"finished\n"


async def test_user_code_finds_no_key_and_no_setting_of_the_platform(around: Platform, containers: ExitStack) -> None:
    script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; find $HOME/.. -type f -exec cat {} +"
    await around.define(script, output=[{"path": f"data/{around.name}/out"}])
    start(around, containers)
    ended = await around.ended((await around.call(b"x")).id)
    assert ended.change is Change.SUCCEEDED
    seen = (
        ended.result if ended.result is not None else await around.store.get(f"tidemill/results/{ended.invocation_id}")
    )
    assert b"IMAGE_SAYS" in seen, "all environments were read"
    assert b"TIDEMILL_SUPERVISOR" not in seen
    assert not [key for key in KEYS if key.encode() in seen]


async def test_user_code_cannot_have_a_secret_shipped(around: Platform, containers: ExitStack) -> None:
    secret = around.directory / "secrets" / "platform.json"
    script = (
        f"ln -s {secret} $TMP_OUTPUT_DIR/key; ln -s {secret.parent} $TMP_OUTPUT_DIR/keys; ln -s {secret} $HOME/result"
    )
    before = secret.read_bytes()
    await around.define(f"{script}; head -c 100000 /dev/zero", output=[{"path": f"data/{around.name}/out"}])
    start(around, containers)
    ended = await around.ended((await around.call(b"x")).id)
    assert (ended.change, ended.outputs) == (Change.SUCCEEDED, ())
    assert secret.read_bytes() == before, "the result was not written through a link"


async def test_a_resident_script_lives_in_the_container(around: Platform, containers: ExitStack) -> None:
    script = """\
        #!/usr/bin/env python3
        import os, pathlib
        from tidemill_resident import serve
        def handle(request):
            text = pathlib.Path(request.input_file).read_text()
            if text == "crash":
                os._exit(9)
            pathlib.Path(request.output_dir, "loud").write_text(text.upper())
            return os.environ["IMAGE_SAYS"]
        serve(handle)
    """
    await around.define(
        dedent(script), resident=True, output=[{"path": f"data/{around.name}/out"}], retry={"attempts": 1}
    )
    worker, container = start(around, containers)
    changes = []
    for text in (b"one", b"crash", b"two"):
        invocation = await around.upload(f"data/{around.name}/in/{text.decode()}", text)
        changes.append((await around.ended(invocation.id)).change)
    assert changes == [Change.SUCCEEDED, Change.DEAD, Change.SUCCEEDED]
    assert await around.store.get(f"data/{around.name}/out/loud") == b"TWO"
    worker.process.send_signal(signal.SIGTERM)
    assert (await worker.ends(), await container.ends()) == (0, 0)


async def test_a_batch_is_run_in_the_container(around: Platform, containers: ExitStack) -> None:
    script = 'cd "$TMP_INPUT_DIR"; for f in *; do tr a-z A-Z < "$f" > "$TMP_OUTPUT_DIR/$f"; done'
    await around.define(script, batch={"size": 4, "wait": "PT1S"}, output=[{"path": f"data/{around.name}/out"}])
    uploads = [await around.upload(f"data/{around.name}/in/{number}", b"text %d" % number) for number in range(4)]
    start(around, containers)
    assert {(await around.ended(upload.id)).change for upload in uploads} == {Change.SUCCEEDED}
    assert await around.store.get(f"data/{around.name}/out/3") == b"TEXT 3"
