"""Several Invocations in one run, as real scripts, with the bus and stores in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.supervisor.scripts_suite import appears, leap
from tests.unit.supervisor.surroundings import World, open_world
from tidemill_common.contracts.invocation import Change, InvocationChanged, Reason
from tidemill_common.errors import NotFoundError
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_supervisor.attempt import Interruption

OUTPUT = [{"path": "data/out"}]
COUNT = 'echo run >> "$RUNS"; '


class MissingStore(MemoryObjectStore):
    """Has lost what is called `gone.txt`."""

    async def download(self, path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith("gone.txt"):
            raise NotFoundError(path)
        return await super().download(path, *arguments, **options)


class Inputs:
    """Uploads, and the batch that they become."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs = world.root / "runs"

    async def __call__(
        self, script: str, names: Sequence[str], *, size: int | None = None, **fields: Any
    ) -> dict[str, InvocationChanged]:
        """The last record of each, by its object's name."""
        leases = {}
        for name in names:
            await self.world.stores.store.put(f"data/in/{name}", f"content of {name}".encode())
            leases[name] = await self.world.lease(path=f"data/in/{name}")
        values = {
            "batch": {"size": size or len(names), "wait": timedelta(seconds=0.3)},
            "output": OUTPUT,
            "variables": {"RUNS": str(self.runs)},
            **fields,
        }
        await asyncio.gather(*(self.world.attempt(lease, script, **values).run() for lease in leases.values()))
        return {name: (await self.world.changes(lease.invocation.id))[-1] for name, lease in leases.items()}

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines())

    async def until_run(self, number: int) -> None:
        async with asyncio.timeout(60):
            while not self.runs.exists() or self.count < number:
                await asyncio.sleep(0.002)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("batch-")], "runs are removed"


@pytest.fixture
def batch(world: World) -> Inputs:
    return Inputs(world)


def paths(record: InvocationChanged) -> list[str]:
    return [output.path for output in record.outputs]


async def test_one_run_gets_all_inputs_and_outputs_go_by_name(batch: Inputs, world: World) -> None:
    script = COUNT + 'cd "$TMP_INPUT_DIR"; for f in *; do cp "$f" "$TMP_OUTPUT_DIR/${f%.*}.out"; done; ls'
    ended = await batch(script, ["a.txt", "b.txt", "c.txt"])
    assert batch.count == 1
    assert {name: (record.change, paths(record)) for name, record in ended.items()} == {
        "a.txt": (Change.SUCCEEDED, ["data/out/a.out"]),
        "b.txt": (Change.SUCCEEDED, ["data/out/b.out"]),
        "c.txt": (Change.SUCCEEDED, ["data/out/c.out"]),
    }
    assert await world.stores.store.get("data/out/b.out") == b"content of b.txt"
    assert await world.lines(ended["b.txt"].invocation_id) == ["a.txt", "b.txt", "c.txt"]


async def test_the_manifest_names_each_invocation_and_its_folder(batch: Inputs, world: World) -> None:
    script = """#!/usr/bin/env python3
import json, os, pathlib
batch = json.load(open(os.environ["TIDEMILL_BATCH"]))
for item in batch["items"]:
    assert pathlib.Path(item["input_file"]).parent == pathlib.Path(os.environ["TMP_INPUT_DIR"]) and item["attempt"] == 1
    assert json.loads(item["event"])["Records"]
    pathlib.Path(item["output_dir"], "key").write_text(item["object_key"])
"""
    ended = await batch(script, ["a.txt", "b.txt"], output=[{"path": "data/keys", "prefix": ["key"]}])
    assert [record.change for record in ended.values()] == [Change.SUCCEEDED] * 2
    assert await world.stores.store.get("data/keys/key") in (b"in/a.txt", b"in/b.txt")


async def test_a_bad_input_is_found_in_halves_and_the_good_ones_pay_nothing(batch: Inputs) -> None:
    script = (
        COUNT + 'cd "$TMP_INPUT_DIR"; [ ! -e bad.txt ] || exit 3; for f in *; do cp $f $TMP_OUTPUT_DIR/; rm $f; done'
    )
    names = ["a.txt", "b.txt", "bad.txt", "c.txt", "d.txt", "e.txt", "f.txt", "g.txt"]
    ended = await batch(script, names)
    assert batch.count == 7  # 8 fail, 4 fail, 2 succeed, 2 fail, 1 fails, 1 succeeds, 4 succeed
    bad = ended.pop("bad.txt")
    assert (bad.change, bad.reason, bad.exit_code, bad.attempt) == (Change.DEAD, Reason.SCRIPT_FAILED, 3, 1)
    assert {(record.change, record.attempt) for record in ended.values()} == {(Change.SUCCEEDED, 1)}
    assert paths(ended["c.txt"]) == ["data/out/c.txt"]


async def test_an_input_that_a_failed_run_changed_is_fetched_again(batch: Inputs, world: World) -> None:
    script = """cd "$TMP_INPUT_DIR"
        if [ $(ls | wc -l) = 2 ]; then for f in *; do echo spoilt >> $f; done; exit 1; fi
        cp * "$TMP_OUTPUT_DIR/"
    """
    ended = await batch(script, ["a.txt", "b.txt"])
    assert [record.change for record in ended.values()] == [Change.SUCCEEDED] * 2
    assert await world.stores.store.get("data/out/a.txt") == b"content of a.txt"


async def test_a_timeout_is_halved_too(batch: Inputs) -> None:
    timeout = timedelta(seconds=3)
    script = f'[ ! -e "$TMP_INPUT_DIR/slow.txt" ] || {{ {COUNT} sleep 60; }}'
    running = asyncio.create_task(batch(script, ["a.txt", "slow.txt"], timeout=timeout))
    for number in (1, 2):  # both together, and the slow one alone
        await batch.until_run(number)
        leap(timeout)
    ended = await running
    assert ended["a.txt"].change is Change.SUCCEEDED
    assert ended["slow.txt"].reason is Reason.TIMEOUT


async def test_the_results_tell_of_each_item(batch: Inputs) -> None:
    script = """#!/usr/bin/env python3
import json, os
batch = json.load(open(os.environ["TIDEMILL_BATCH"]))
a, b = batch["items"]
open(os.environ["TMP_OUTPUT_DIR"] + "/all.csv", "w").write("x")
results = [{"id": a["id"], "files": ["all.csv"]}, {"id": b["id"], "exit_code": 65, "error": "no cat"}]
json.dump({"items": results}, open(os.environ["TIDEMILL_RESULTS"], "w"))
"""
    ended = await batch(script, ["a.txt", "b.txt"])
    assert paths(ended["a.txt"]) == ["data/out/all.csv"]
    assert (ended["b.txt"].exit_code, ended["b.txt"].message) == (65, "no cat")


async def test_an_output_of_nobody_splits_the_batch_until_it_is_clear(batch: Inputs) -> None:
    script = COUNT + 'ls "$TMP_INPUT_DIR" > "$TMP_OUTPUT_DIR/list"'
    ended = await batch(script, ["a.txt", "b.txt"])
    assert batch.count == 3
    assert [(record.change, paths(record)) for record in ended.values()] == [(Change.SUCCEEDED, ["data/out/list"])] * 2


async def test_results_that_are_none_fail_the_run(batch: Inputs) -> None:
    ended = await batch('echo nonsense > "$TIDEMILL_RESULTS"', ["a.txt"])
    assert ended["a.txt"].message == "read TIDEMILL_RESULTS: it answered no JSON: 'nonsense'"


async def test_an_input_that_is_missing_fails_alone(batch: Inputs, world: World) -> None:
    world.stores.store = MissingStore("data", "tidemill")
    ended = await batch("exit 0", ["a.txt", "gone.txt"])
    assert ended["a.txt"].change is Change.SUCCEEDED
    assert ended["gone.txt"].reason is Reason.INPUT_MISSING


async def test_it_runs_with_fewer_when_the_time_is_over(batch: Inputs) -> None:
    ended = await batch(COUNT, ["a.txt"], size=100)
    assert ended["a.txt"].change is Change.SUCCEEDED
    assert batch.count == 1


async def test_a_cancelled_item_is_dropped_and_the_others_go_on(batch: Inputs, world: World) -> None:
    go = world.root / "go"
    script = (
        f'touch {world.root}/begun; while [ ! -e {go} ]; do sleep 0.01; done; cp "$TMP_INPUT_DIR"/* "$TMP_OUTPUT_DIR/"'
    )
    leases = []
    for name in ("a.txt", "b.txt"):
        await world.stores.store.put(f"data/in/{name}", b"x")
        leases.append(await world.lease(path=f"data/in/{name}"))
    fields = {"batch": {"size": 2}, "output": OUTPUT}
    attempts = [world.attempt(lease, script, **fields) for lease in leases]
    running = [asyncio.create_task(attempt.run()) for attempt in attempts]
    await appears(world.root / "begun", empty=True)
    attempts[0].interrupt(Interruption.CANCELLED)
    await running[0]
    go.touch()
    await running[1]
    assert [change.change for change in await world.changes(leases[0].invocation.id)] == [Change.STARTED]
    ended = (await world.changes(leases[1].invocation.id))[-1]
    assert (ended.change, paths(ended)) == (Change.SUCCEEDED, ["data/out/b.txt"])
    assert await world.stores.store.head("data/out/a.txt") is None


async def test_the_script_ends_when_all_are_cancelled(world: World) -> None:
    lease = await world.lease(b"x")
    script = f"echo $$ > {world.root}/pid; sleep 60"
    attempt = world.attempt(lease, script, batch={"size": 1})
    running = asyncio.create_task(attempt.run())
    pid_file = world.root / "pid"
    await appears(pid_file)
    attempt.interrupt(Interruption.CANCELLED)
    await running
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


async def test_one_that_failed_before_runs_alone(batch: Inputs, world: World) -> None:
    await batch(COUNT + "exit 1", ["a.txt"], retry={"attempts": 2, "backoff": timedelta()})
    async with asyncio.timeout(30):
        again = await anext(aiter(world.leases))
    assert again.attempt == 2
    fields = {"batch": {"size": 50, "wait": timedelta(hours=1)}, "variables": {"RUNS": str(batch.runs)}}
    await world.attempt(again, COUNT, **fields).run()
    assert (await world.changes(again.invocation.id))[-1].change is Change.SUCCEEDED


RESIDENT = """#!/usr/bin/env python3
import os, pathlib
from tidemill_resident import serve
def handle(request):
    names = [pathlib.Path(item.input_file).name for item in request.items]
    if "crash.txt" in names:
        os._exit(9)
    for item, name in zip(request.items, names):
        if name == "bad.txt":
            item.fail("bad input", exit_code=65)
        else:
            pathlib.Path(item.output_dir, name).write_text(str(len(names)))
serve(handle)
"""


async def test_a_resident_script_gets_the_batch_in_one_line(batch: Inputs, world: World) -> None:
    ended = await batch(RESIDENT, ["a.txt", "bad.txt", "c.txt"], resident=True)
    assert paths(ended["a.txt"]) == ["data/out/a.txt"]
    assert await world.stores.store.get("data/out/c.txt") == b"3"
    assert (ended["bad.txt"].exit_code, ended["bad.txt"].message) == (65, "bad input")


async def test_a_batch_that_crashes_a_resident_script_is_halved(batch: Inputs, world: World) -> None:
    ended = await batch(RESIDENT, ["a.txt", "crash.txt", "c.txt"], resident=True)
    assert [ended[name].change for name in ("a.txt", "c.txt")] == [Change.SUCCEEDED] * 2
    assert (ended["crash.txt"].change, ended["crash.txt"].exit_code) == (Change.DEAD, 9)


async def test_what_a_batch_writes_answers_no_caller(world: World) -> None:
    script = "echo everybody sees this"
    leases = [await world.lease(body) for body in (b"one", b"two")]
    await asyncio.gather(*(world.attempt(lease, script, batch={"size": 2}).run() for lease in leases))
    results = [(await world.changes(lease.invocation.id))[-1].result for lease in leases]
    assert results == [b"", b""]
