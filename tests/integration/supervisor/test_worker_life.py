"""A Worker's life: drain, removal, reuse, new definitions, missing dependencies."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.supervisor.platform import KEYS, Platform, platform, until
from tests.servers import Running
from tidemill_common.contracts.invocation import Change, Reason

pytestmark = pytest.mark.integration


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


def marker(around: Platform, name: str) -> Path:
    return around.directory / name


async def test_stopping_finishes_the_attempt_in_flight(around: Platform) -> None:
    await around.define(f"touch {marker(around, 'up')}; sleep 0.5; echo finished")
    worker = around.start_worker()
    invocation = await around.call(b"")
    await until(marker(around, "up").exists)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert (await around.ended(invocation.id)).result == b"finished\n"


async def test_what_outlives_the_drain_goes_to_another_worker(around: Platform) -> None:
    await around.define(f"touch {marker(around, 'up')}-$TIDEMILL_WORKER; [ $TIDEMILL_WORKER = w2 ] || sleep 60")
    first = around.start_worker("w1", DRAIN_TIMEOUT="PT0.2S")
    invocation = await around.call(b"")
    await until(marker(around, "up-w1").exists)
    first.process.send_signal(signal.SIGTERM)
    assert await first.ends() == 0
    around.start_worker("w2")
    ended = await around.ended(invocation.id)
    assert (ended.change, ended.worker) == (Change.SUCCEEDED, "w2")


async def test_a_worker_ends_when_its_service_is_removed(around: Platform) -> None:
    await around.define("exit 0")
    worker = around.start_worker()
    await worker.ready()
    await around.remove()
    assert await worker.ends() == 0


async def test_a_worker_ends_when_its_reuse_is_used_up(around: Platform) -> None:
    await around.define("exit 0", reuse=2, slots=4)
    invocations = [await around.call(b"%d" % number) for number in range(3)]
    assert await around.start_worker("w1").ends() == 0
    assert await around.waiting() == 1
    around.start_worker("w2")
    for invocation in invocations:
        assert (await around.ended(invocation.id)).change is Change.SUCCEEDED


async def test_a_new_definition_is_used_from_the_next_attempt_on(around: Platform) -> None:
    await around.define("echo old")
    around.start_worker()
    before = await around.ended((await around.call(b"1")).id)
    await around.define("echo new")
    after = await around.ended((await around.call(b"2")).id)
    assert (before.result, before.revision) == (b"old\n", 1)
    assert (after.result, after.revision) == (b"new\n", 2)


async def test_slots_run_at_the_same_time_and_are_told(around: Platform) -> None:
    async with around.bus.live.subscribe(f"live.worker.{around.name}.w1") as told:
        folder = around.directory
        script = f"touch {folder}/up-$JOB_UUID; while [ $(ls {folder} | grep -c up-) -lt 3 ]; do sleep 0.01; done"
        await around.define(script, slots=3)
        around.start_worker()
        for invocation in [await around.call(b"%d" % number) for number in range(3)]:
            assert (await around.ended(invocation.id)).change is Change.SUCCEEDED
        async with asyncio.timeout(60):
            async for _, body in told:
                report = json.loads(body)
                if (report["busy"], report["slots"], len(report["invocations"])) == (3, 3, 3):
                    break
        assert all(told.keys() == {"id", "attempt", "revision"} for told in report["invocations"])


async def test_without_definition_or_bus_a_worker_says_that_a_dependency_is_missing(around: Platform) -> None:
    unknown = around.start_worker("w1", SERVICE="unknown", DEFINITION_TIMEOUT="PT0.2S")
    away = around.start_worker("w2", BUS__URL="nats://127.0.0.1:9")
    assert (await unknown.ends(), await away.ends()) == (75, 75)


@pytest.mark.parametrize("settings", [{"BUS__PASSWORD": "hunter2"}, {"BUS__URL": "nats://user:hunter2@127.0.0.1:4222"}])
async def test_a_key_in_the_environment_stops_the_start(around: Platform, settings: dict[str, str]) -> None:
    worker = around.start_worker(**settings)
    assert await worker.ends() not in (0, 75)
    assert b"password_file" in worker.log.read_bytes()
    assert b"hunter2" not in worker.log.read_bytes()


async def test_no_key_is_in_the_environment_of_user_code_or_of_the_worker(around: Platform) -> None:
    await around.define("cat /proc/self/environ /proc/$$/environ /proc/$PPID/environ /proc/$PPID/cmdline")
    around.start_worker()
    ended = await around.ended((await around.call(b"")).id)
    assert ended.result is not None
    assert b"TIDEMILL_SUPERVISOR_SECRETS_DIR" in ended.result, "the Worker's own environment was read"
    assert not [key for key in KEYS if key.encode() in ended.result]


async def test_a_gigabyte_of_output_neither_fills_memory_nor_the_bus_nor_blocks(around: Platform) -> None:
    line = "x" * 99
    await around.define(f"yes {line} | head -c 1000000000; echo the end")
    worker = around.start_worker()
    invocation = await around.upload(f"data/{around.name}/in/a", b"x")
    ended = await around.ended(invocation.id, timeout=90)
    peak = next(row for row in Path(f"/proc/{worker.process.pid}/status").read_text().splitlines() if "VmHWM" in row)
    assert ended.change is Change.SUCCEEDED
    assert (ended.log_tail or "").endswith("the end\n")
    assert int(peak.split()[1]) < 130_000
    lines = await around.log_lines(invocation.id)
    assert lines[-1] == "the end"
    assert sum(len(text) + 1 for text in lines) < 5 * 1024**2


async def test_a_workspace_beyond_what_the_service_asked_for_ends_the_attempt(around: Platform) -> None:
    script = "i=0; while true; do head -c 50000 /dev/zero > $TMP_OUTPUT_DIR/$i; i=$((i+1)); sleep 0.01; done"
    await around.define(script, ephemeral_storage_request="500k", retry={"attempts": 1})
    around.start_worker()
    ended = await around.ended((await around.call(b"")).id)
    assert (ended.change, ended.reason) == (Change.DEAD, Reason.DISK_LIMIT)


async def test_binary_input_and_output_are_unchanged(around: Platform) -> None:
    body = os.urandom(300_000)
    await around.define('cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"', output=[{"path": f"data/{around.name}/out"}])
    around.start_worker()
    ended = await around.ended((await around.upload(f"data/{around.name}/in/a.bin", body)).id)
    assert await around.store.get(ended.outputs[0].path) == body
    called = await around.ended((await around.call(base64.b64encode(body[:20_000]))).id)
    assert base64.b64decode(called.result or b"") == body[:20_000]


def test_starting_loads_nothing_that_a_worker_does_not_need() -> None:
    heavy = {"obstore", "aiobotocore", "botocore", "aiohttp", "rich", "fastapi", "sqlalchemy", "nats.js.api"}
    code = f"import sys, tidemill_supervisor.__main__; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
