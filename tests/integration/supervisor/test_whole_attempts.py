"""Whole Attempts by real Workers, with a real bus and a real store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.supervisor.platform import Platform, platform, until
from tests.servers import Running
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason

pytestmark = pytest.mark.integration


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


async def test_an_upload_becomes_an_output(around: Platform) -> None:
    script = 'tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/loud.txt"; echo "$STORAGE_OBJECT_KEY"'
    await around.define(script, output=[{"path": f"data/{around.name}/out"}])
    around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/quiet one.txt", b"hello")
    started, ended = await around.changes(invocation.id)
    assert (started.change, started.attempt, started.worker) == (Change.STARTED, 1, "w1")
    assert (ended.change, ended.reason, ended.exit_code) == (Change.SUCCEEDED, Reason.COMPLETED, 0)
    assert [output.path for output in ended.outputs] == [f"data/{around.name}/out/loud.txt"]
    assert await around.store.get(ended.outputs[0].path) == b"HELLO"
    assert await around.log_lines(invocation.id) == [f"{around.name}/in/quiet one.txt"]
    await until(lambda: not list((around.directory / "work" / "w1").glob("*-*")))


async def test_an_attempt_that_failed_is_followed_by_one_that_succeeds(around: Platform) -> None:
    script = 'echo attempt $TIDEMILL_ATTEMPT; [ "$TIDEMILL_ATTEMPT" = 2 ] || exit 3'
    await around.define(script, retry={"attempts": 3, "backoff": "PT0.2S"})
    around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    changes = await around.changes(invocation.id)
    assert [(change.change, change.attempt) for change in changes] == [
        (Change.STARTED, 1),
        (Change.RETRIED, 1),
        (Change.STARTED, 2),
        (Change.SUCCEEDED, 2),
    ]
    assert (changes[1].exit_code, changes[1].log_tail) == (3, "attempt 1\n")
    assert changes[1].not_before is not None


async def test_attempts_that_are_used_up_leave_a_dead_letter(around: Platform) -> None:
    await around.define("echo broken; exit 3", retry={"attempts": 2, "backoff": "PT0.1S"})
    around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    ended = await around.ended(invocation.id)
    assert (ended.change, ended.attempt, ended.reason) == (Change.DEAD, 2, Reason.SCRIPT_FAILED)
    while not (letters := await around.dead_letters()):
        await asyncio.sleep(0.01)
    (letter,) = letters
    assert (letter.invocation.id, letter.attempts, letter.log_tail) == (invocation.id, 2, "broken\n")


async def test_an_input_that_is_gone_is_set_aside_at_once(around: Platform) -> None:
    await around.define("exit 0")
    around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    gone = invocation.event.model_copy(update={"artifact": ArtifactRef(path="data/none"), "id": "other"})
    missing = await around.submit(gone)
    ended = await around.ended(missing.id)
    assert (ended.change, ended.attempt, ended.reason) == (Change.DEAD, 1, Reason.INPUT_MISSING)


async def test_a_caller_gets_the_answer(around: Platform) -> None:
    await around.define('tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/answer"')
    around.start_worker()
    address = f"live.reply.test.{around.name}"
    async with asyncio.timeout(30), around.bus.live.subscribe(address) as replies:
        await around.call(base64.b64encode(b"hello"), reply_to=address)
        async for _, body in replies:
            reply = InvocationChanged.decode(body)
            break
    assert reply.change is Change.SUCCEEDED
    assert reply.result == base64.b64encode(b"HELLO")


async def test_a_large_answer_travels_by_reference(around: Platform) -> None:
    await around.define("head -c 100000 /dev/zero | tr '\\0' x")
    around.start_worker()
    invocation = await around.call(b"")
    ended = await around.ended(invocation.id)
    assert ended.result is None
    assert ended.result_ref is not None
    assert await around.store.get(ended.result_ref.path) == b"x" * 100_000


async def test_a_running_attempt_is_cancelled(around: Platform) -> None:
    await around.define('touch "$HOME/../started"; sleep 60')
    around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    await around.started(invocation.id)
    await around.cancel(invocation.id)
    await around.nothing_waits()
    assert not await around.dead_letters()


async def test_what_was_cancelled_before_is_not_run(around: Platform) -> None:
    await around.define(f"touch {around.directory}/ran")
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    await around.cancel(invocation.id)
    around.start_worker()
    await around.nothing_waits()
    assert not (around.directory / "ran").exists()
