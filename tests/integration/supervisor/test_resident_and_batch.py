"""Resident scripts and batches in real Workers, with a real bus and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.supervisor.platform import Platform, is_gone, platform, until
from tests.servers import Running
from tidemill_common.contracts.invocation import CHANGED, TERMINAL, Change, Reason

pytestmark = pytest.mark.integration

RESIDENT = """#!/usr/bin/env python3
import os, pathlib, time
from tidemill_resident import serve
print("loaded by", os.getpid())
def handle(request):
    text = pathlib.Path(request.input_file).read_text() if request.input_file else ""
    if text == "crash":
        os._exit(9)
    if text == "slow":
        print("slow now", flush=True)
        time.sleep(60)
    pathlib.Path(request.output_dir, pathlib.Path(request.object_key or "called").name).write_text(text.upper())
    return str(os.getpid())
serve(handle)
"""
BATCH = """
ls "$TMP_INPUT_DIR" | tr '\\n' ' '
cd "$TMP_INPUT_DIR"
for f in *; do
  grep -q bad "$f" && exit 3
  tr a-z A-Z < "$f" > "$TMP_OUTPUT_DIR/$f"
done
"""


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


async def test_uploads_are_handled_by_one_process(around: Platform) -> None:
    await around.define(RESIDENT, resident=True, output=[{"path": f"data/{around.name}/out"}])
    around.start_worker()
    uploads = [await around.upload(f"data/{around.name}/in/{number}", b"text %d" % number) for number in range(20)]
    ended = [await around.ended(upload.id) for upload in uploads]
    assert {(record.change, record.attempt) for record in ended} == {(Change.SUCCEEDED, 1)}
    assert await around.store.get(f"data/{around.name}/out/7") == b"TEXT 7"
    lines = [line for upload in uploads for line in await around.log_lines(upload.id)]
    assert len(lines) == 1, "it was loaded once"


async def test_hundreds_of_calls_are_each_answered_once(around: Platform) -> None:
    await around.define(RESIDENT, resident=True)
    for number in range(500):
        await around.call(b"call %d" % number)
    around.start_worker()
    await around.nothing_waits()
    async with around.bus.log.read(CHANGED, key=around.name) as changes:
        records = [record.body async for record in changes if record.body.change in TERMINAL]
    assert len({record.invocation_id for record in records}) == len(records) == 500
    assert {(record.change, record.attempt) for record in records} == {(Change.SUCCEEDED, 1)}


async def test_a_crash_costs_its_invocation_an_attempt_and_no_other(around: Platform) -> None:
    await around.define(RESIDENT, resident=True, retry={"attempts": 2, "backoff": "PT0.1S"})
    around.start_worker()
    calls = [await around.call(body) for body in (b"one", b"crash", b"two", b"three")]
    ended = [await around.ended(call.id) for call in calls]
    assert [(record.change, record.attempt) for record in ended] == [
        (Change.SUCCEEDED, 1),
        (Change.DEAD, 2),
        (Change.SUCCEEDED, 1),
        (Change.SUCCEEDED, 1),
    ]
    assert (ended[1].reason, ended[1].exit_code) == (Reason.SCRIPT_FAILED, 9)


async def test_a_cancelled_call_ends_and_the_next_one_is_answered(around: Platform) -> None:
    await around.define(RESIDENT, resident=True)
    around.start_worker()
    slow = await around.call(b"slow")
    await around.started(slow.id)
    await around.cancel(slow.id)
    after = await around.call(b"quick")
    assert (await around.ended(after.id)).change is Change.SUCCEEDED


async def test_a_new_revision_is_what_answers_next(around: Platform) -> None:
    await around.define(RESIDENT, resident=True)
    around.start_worker()
    first = await around.ended((await around.call(b"one")).id)
    await around.define(RESIDENT.replace("return str(os.getpid())", "return 'new'"), resident=True)
    second = await around.ended((await around.call(b"two")).id)
    assert (first.revision, second.revision, second.result) == (1, 2, b"new")


async def test_a_drained_worker_leaves_no_script_and_loses_nothing(around: Platform) -> None:
    await around.define(RESIDENT, resident=True)
    worker = around.start_worker()
    first = await around.ended((await around.call(b"one")).id)
    pid = int(first.result or b"0")
    worker.process.terminate()
    assert await worker.ends() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert not (around.directory / "work" / "w1").exists()


async def test_a_killed_worker_leaves_no_script(around: Platform) -> None:
    await around.define(RESIDENT, resident=True)
    worker = around.start_worker()
    first = await around.ended((await around.call(b"one")).id)
    worker.kill()
    await until(lambda: is_gone(int(first.result or b"0")))


async def test_a_backlog_is_handled_in_batches_and_the_bad_input_fails_alone(around: Platform) -> None:
    await around.define(
        BATCH,
        batch={"size": 8, "wait": "PT1M"},
        output=[{"path": f"data/{around.name}/out"}],
        retry={"attempts": 1},
    )
    bodies = [b"bad" if number == 3 else b"text %d" % number for number in range(8)]
    uploads = [await around.upload(f"data/{around.name}/in/{number}.txt", body) for number, body in enumerate(bodies)]
    around.start_worker()
    ended = [await around.ended(upload.id) for upload in uploads]
    bad = ended.pop(3)
    assert (bad.change, bad.reason, bad.exit_code) == (Change.DEAD, Reason.SCRIPT_FAILED, 3)
    assert {(record.change, record.attempt) for record in ended} == {(Change.SUCCEEDED, 1)}
    assert [output.path for output in ended[0].outputs] == [f"data/{around.name}/out/0.txt"]
    assert await around.store.get(f"data/{around.name}/out/5.txt") == b"TEXT 5"
    together = (await around.log_lines(uploads[0].id))[0]
    assert together.split() == [f"{number}.txt" for number in range(8)], "all were in one run"


async def test_a_batch_longer_than_a_lease_keeps_its_leases(nats: Running, seaweed: Running, tmp_path: Path) -> None:
    async with platform(nats, seaweed, tmp_path, lease=timedelta(seconds=3)) as around:
        await around.define("sleep 5", batch={"size": 3, "wait": "PT0.5S"})
        uploads = [await around.upload(f"data/{around.name}/in/{number}", b"x") for number in range(3)]
        around.start_worker()
        ended = [await around.ended(upload.id) for upload in uploads]
    assert [(record.change, record.attempt) for record in ended] == [(Change.SUCCEEDED, 1)] * 3
