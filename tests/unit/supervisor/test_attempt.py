"""The path of one Lease, with real scripts and the bus and stores in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.supervisor.builders import MARK, called_event, execution, invocation, place, service, stored_event
from tests.unit.supervisor.scripts_suite import appears
from tidemill_common.bus import Bus, Lease
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.contracts.invocation import (
    CHANGED,
    LOG_WRITTEN,
    SET_ASIDE,
    Change,
    DeadLetter,
    InvocationChanged,
    Reason,
)
from tidemill_common.errors import AccessDeniedError, NotFoundError, UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_common.storage import ObjectInfo, ObjectStore
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_supervisor.attempt import Attempt, Interruption
from tidemill_supervisor.causes import ended_by
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.performance import Rules, Tools
from tidemill_supervisor.ports import ContainerEndedError
from tidemill_supervisor.processes import ProcessScripts
from tidemill_supervisor.reporting import Reporter


class MemoryStores:
    """Providers that are all in memory."""

    def __init__(self, stores: Mapping[str, MemoryObjectStore], pauses: Sequence[timedelta]) -> None:
        self._stores = stores
        self.pauses = pauses

    def is_shared(self, provider: str) -> bool:
        return provider == "minio.default"

    async def open(self, provider: str) -> ObjectStore:
        if provider not in self._stores:
            raise NotFoundError(f"open {provider}: this Service has no credentials for it")
        return self._stores[provider]


class CountingStore(MemoryObjectStore):
    """Counts what is written; loses so many of its answers."""

    uploads = 0
    lost_answers = 0

    async def download(self, *arguments: Any, **options: Any) -> Any:
        return self._answer(await super().download(*arguments, **options))

    async def upload(self, *arguments: Any, **options: Any) -> Any:
        self.uploads += 1
        return self._answer(await super().upload(*arguments, **options))

    def _answer(self, info: ObjectInfo) -> ObjectInfo:
        if self.lost_answers > 0:
            self.lost_answers -= 1
            raise UnavailableError("connection lost")
        return info


@dataclass
class World:
    """One Worker's surroundings."""

    bus: Bus
    root: Path
    scripts: ProcessScripts
    store: CountingStore = field(default_factory=lambda: CountingStore("blur", "other", "tidemill"))
    second: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore("far"))
    secrets: dict[str, str] = field(default_factory=dict)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    rules: Rules = field(default_factory=lambda: Rules(grace=timedelta(milliseconds=100)))
    told: ContainerEndedError | None = None
    pauses: Sequence[timedelta] = ()

    async def lease(self, event: EventReceived) -> Lease:
        """Submit an Invocation by this Event, and lease it."""
        await self.bus.queue.submit(invocation(event))
        return await self.next_lease()

    async def next_lease(self) -> Lease:
        leases = await self.stack.enter_async_context(self.bus.queue.leases(invocation().service, slots=1))
        async with asyncio.timeout(30):
            return await anext(aiter(leases))

    def attempt(self, lease: Lease, script: str, *, cancelled: bool = False, **fields: Any) -> Attempt:
        definition = Definition(
            service=service(script, **fields),
            revision=1,
            secrets=self.secrets,
            stores=MemoryStores({"minio.default": self.store, "s3.far": self.second}, self.pauses),
        )
        tools = Tools(
            bus_log=self.bus.log,
            reporter=Reporter(self.bus.log, self.bus.live),
            scripts=self.scripts,
            clock=lambda: datetime.now(UTC),
            jitter=lambda: 0.0,
            rules=self.rules,
            told=lambda: self.told,
        )
        at = place(self.root, attempt=lease.attempt, invocation_id=lease.invocation.id)
        return Attempt(lease, definition, at, execution(lease.invocation, lease.attempt), tools, cancelled=cancelled)

    async def run(self, event: EventReceived, script: str, **fields: Any) -> InvocationChanged:
        """One whole Attempt; returns its last record."""
        lease = await self.lease(event)
        await self.attempt(lease, script, **fields).run()
        return (await self.changes())[-1]

    async def changes(self) -> list[InvocationChanged]:
        async with self.bus.log.read(CHANGED) as records:
            return [record.body async for record in records]

    async def lines(self) -> list[str]:
        async with self.bus.log.read(LOG_WRITTEN) as records:
            return [line async for record in records for line in record.body.lines]

    async def dead(self) -> list[DeadLetter]:
        async with self.bus.log.read(SET_ASIDE) as records:
            return [record.body async for record in records]

    async def backlog(self) -> tuple[int, int]:
        """(ready, delayed)"""
        found = (await self.bus.queue.backlog()).get(invocation().service)
        return (found.ready, found.delayed) if found else (0, 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = BusSettings(url="memory://")
    with contextlib.closing(Guardian(MARK)) as guardian:
        async with open_memory(settings) as bus:
            made = World(bus, tmp_path, ProcessScripts(guardian))
            async with made.stack:
                yield made
    assert not list(tmp_path.iterdir()), "workspaces are removed"


async def test_an_object_is_staged_in_and_outputs_are_staged_out(world: World) -> None:
    await world.store.put("blur/in/a b.txt", b"hello")
    script = """
        mkdir "$TMP_OUTPUT_DIR/deep"
        cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/deep/copy.txt"
        echo "$(basename "$INPUT_FILE_PATH")|$STORAGE_OBJECT_KEY|$EVENT_TIME" > "$TMP_OUTPUT_DIR/seen.log"
    """
    ended = await world.run(
        stored_event("blur/in/a b.txt"),
        script,
        output=[{"path": "blur/out", "suffix": [".txt"]}, {"path": "far/all", "storage_provider": "s3.far"}],
    )
    assert (ended.change, ended.result) == (Change.SUCCEEDED, None)
    assert [(output.provider, output.path) for output in ended.outputs] == [
        ("minio.default", "blur/out/deep/copy.txt"),
        ("s3.far", "far/all/deep/copy.txt"),
        ("s3.far", "far/all/seen.log"),
    ]
    assert await world.store.get("blur/out/deep/copy.txt") == b"hello"
    assert await world.second.get("far/all/seen.log") == b"a b.txt|in/a b.txt|2026-03-04T10:11:12.345Z\n"
    info = await world.store.head("blur/out/deep/copy.txt")
    assert info is not None
    assert info.metadata["tidemill-invocation"] == ended.invocation_id
    assert await world.backlog() == (0, 0)


async def test_started_comes_before_the_end_and_the_end_before_the_answer(world: World) -> None:
    ended = await world.run(called_event(b""), "exit 0")
    assert [change.change for change in await world.changes()] == [Change.STARTED, Change.SUCCEEDED]
    assert (ended.attempt, ended.worker, ended.trigger, ended.revision) == (1, "w1", "direct", 1)


async def test_a_repeated_attempt_writes_no_output_again(world: World) -> None:
    script = 'echo same > "$TMP_OUTPUT_DIR/a"; echo $TIDEMILL_ATTEMPT > "$TMP_OUTPUT_DIR/b"'
    first = await world.lease(called_event(b""))
    await world.attempt(first, script, output=[{"path": "blur/out"}]).run()
    await world.attempt(first, script, output=[{"path": "blur/out"}]).run()
    assert world.store.uploads == 2, "the same content is left alone"
    await world.store.put("blur/out/a", b"of another Invocation")
    await world.attempt(first, script, output=[{"path": "blur/out"}]).run()
    assert world.store.uploads == 3


async def test_a_failed_attempt_is_planned_again(world: World) -> None:
    ended = await world.run(called_event(b""), "echo why; exit 3")
    assert (ended.change, ended.reason, ended.exit_code, ended.log_tail) == (
        Change.RETRIED,
        Reason.SCRIPT_FAILED,
        3,
        "why\n",
    )
    assert ended.not_before is not None
    assert await world.backlog() == (0, 1)


async def test_the_last_failed_attempt_leaves_a_dead_letter(world: World) -> None:
    ended = await world.run(called_event(b""), "echo why; exit 3", retry={"attempts": 1})
    assert ended.change is Change.DEAD
    (letter,) = await world.dead()
    assert (letter.reason, letter.exit_code, letter.log_tail, letter.attempts) == (
        Reason.SCRIPT_FAILED,
        3,
        "why\n",
        1,
    )
    assert await world.backlog() == (0, 0)


async def test_a_final_exit_code_fails_without_dead_letter(world: World) -> None:
    ended = await world.run(called_event(b""), "exit 4", retry={"final_exit_codes": [4]})
    assert (ended.change, await world.dead(), await world.backlog()) == (Change.FAILED, [], (0, 0))


async def test_who_waits_is_told_of_a_failure_at_once(world: World) -> None:
    async with world.bus.live.subscribe("live.reply.g.1") as replies:
        ended = await world.run(called_event(b"", reply_to="live.reply.g.1"), "echo no; exit 3")
        _, body = await anext(replies)
    assert InvocationChanged.decode(body) == ended
    assert (ended.change, ended.result) == (Change.FAILED, b"no\n")


async def test_a_missing_input_is_not_tried_again(world: World) -> None:
    ended = await world.run(stored_event("blur/in/none"), "exit 0")
    assert (ended.change, ended.reason) == (Change.DEAD, Reason.INPUT_MISSING)


async def test_a_changed_input_is_taken_as_it_is_and_said_so(world: World) -> None:
    await world.store.put("blur/in/a", b"new")
    ended = await world.run(stored_event("blur/in/a", etag="0" * 32), 'cat "$INPUT_FILE_PATH"')
    assert ended.change is Change.SUCCEEDED
    assert await world.lines() == [
        "[tidemill] blur/in/a has changed since its Event; this is its current content",
        "new",
    ]


async def test_a_store_that_is_away_is_tried_again_later(world: World) -> None:
    world.store.failure = UnavailableError("away")
    ended = await world.run(stored_event("blur/in/a"), "exit 0")
    assert (ended.change, ended.reason) == (Change.RETRIED, Reason.STAGE_IN_FAILED)


async def test_a_store_that_is_away_for_a_moment_costs_no_attempt_and_is_written_once(world: World) -> None:
    world.pauses = [timedelta(0)] * 2
    await world.store.put("blur/in/a", b"x")
    for event, script in (
        (stored_event("blur/in/a"), 'cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"'),  # its input is fetched twice
        (called_event(b""), 'touch "$TMP_OUTPUT_DIR/b"'),
    ):
        world.store.lost_answers = 1
        ended = await world.run(event, script, output=[{"path": "blur/out"}])
        assert (ended.change, ended.attempt, world.store.lost_answers) == (Change.SUCCEEDED, 1, 0)
    assert world.store.uploads == 2


async def test_outputs_that_cannot_be_stored_are_a_failure(world: World) -> None:
    world.store.failure = AccessDeniedError("no")
    ended = await world.run(called_event(b""), 'echo ran; touch "$TMP_OUTPUT_DIR/a"', output=[{"path": "blur/out"}])
    assert (ended.change, ended.reason, ended.log_tail) == (Change.DEAD, Reason.STAGE_OUT_FAILED, "ran\n")


async def test_an_output_provider_that_cannot_be_used_stops_before_the_script(world: World) -> None:
    output = [{"path": "x", "storage_provider": "rucio.lab"}]
    ended = await world.run(called_event(b""), f"touch {world.root}/ran", output=output)
    assert ended.reason is Reason.STAGE_OUT_FAILED
    assert ended.message is not None
    assert "rucio.lab" in ended.message


async def test_the_input_is_not_fetched_when_the_service_does_so_itself(world: World) -> None:
    ended = await world.run(stored_event("blur/in/none"), 'echo "${INPUT_FILE_PATH-unset}"', file_stage_in=True)
    assert ended.change is Change.SUCCEEDED
    assert await world.lines() == ["unset"]


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo text; echo more", b"text\nmore\n"),
        ("echo text; printf '\\000\\377' > $TMP_OUTPUT_DIR/f", base64.b64encode(b"\x00\xff")),
    ],
)
async def test_a_call_is_answered_with_its_file_or_its_text(world: World, script: str, result: bytes) -> None:
    assert (await world.run(called_event(b"aGk="), script)).result == result


async def test_a_call_about_a_stored_object_is_answered_with_text(world: World) -> None:
    await world.store.put("blur/in/a", b"x")
    body = b'{"Records":[{"eventSource":"minio:s3","s3":{"bucket":{"name":"blur"},"object":{"key":"in%2Fa"}}}]}'
    ended = await world.run(called_event(body), "echo text; touch $TMP_OUTPUT_DIR/f", input=[{"path": "blur/in"}])
    assert ended.result == b"text\n"


async def test_a_call_with_several_files_is_answered_with_an_archive(world: World) -> None:
    ended = await world.run(called_event(b""), "cd $TMP_OUTPUT_DIR; mkdir d; echo 1 > a; echo 2 > d/b")
    assert ended.result is not None
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(ended.result))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a": b"1\n", "d/b": b"2\n"}
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


async def test_a_large_answer_is_stored(world: World) -> None:
    ended = await world.run(called_event(b""), "head -c 50000 /dev/zero | tr '\\0' y")
    assert ended.result is None
    assert ended.result_ref == ArtifactRef(
        path=f"tidemill/results/{ended.invocation_id}", etag=ended.result_ref and ended.result_ref.etag, size=50_000
    )
    assert await world.store.get(ended.result_ref.path) == b"y" * 50_000


async def test_a_large_payload_comes_from_the_store(world: World) -> None:
    body = base64.b64encode(b"z" * 100_000)
    await world.store.put("tidemill/payloads/p", body)
    event = called_event(None, data_ref=ArtifactRef(path="tidemill/payloads/p"))
    ended = await world.run(event, 'wc -c < "$INPUT_FILE_PATH"; echo "${EVENT-unset}"; wc -c < "$EVENT_FILE_PATH"')
    assert (ended.result or b"").split() == [b"100000", b"unset", str(len(body)).encode()]


@pytest.mark.parametrize(("owner", "change"), [("ann", Change.DEAD), ("cluster_admin", Change.SUCCEEDED)])
async def test_a_caller_cannot_name_objects_of_others(world: World, owner: str, change: Change) -> None:
    await world.store.put("other/secret", b"x")
    body = b'{"Records":[{"eventSource":"minio:s3","s3":{"bucket":{"name":"other"},"object":{"key":"secret"}}}]}'
    assert (await world.run(called_event(body), "exit 0", owner=owner)).change is change


async def test_nobody_can_name_what_the_platform_keeps(world: World) -> None:
    await world.store.put("tidemill/results/1", b"x")
    body = b'{"Records":[{"eventSource":"minio:s3","s3":{"bucket":{"name":"tidemill"},"object":{"key":"results/1"}}}]}'
    assert (await world.run(called_event(body), "exit 0", owner="cluster_admin")).change is Change.DEAD


async def test_links_out_of_the_workspace_are_not_stored(world: World) -> None:
    outside = world.root.parent / f"{world.root.name}-key"
    outside.write_text("key")
    script = f"cd $TMP_OUTPUT_DIR; ln -s {outside} stolen; ln -s / all; echo x > a; ln -s a own; mkfifo pipe"
    ended = await world.run(called_event(b""), script, output=[{"path": "blur/out"}])
    assert [output.key for output in ended.outputs] == ["out/a", "out/own"]
    assert len([line for line in await world.lines() if "was not stored" in line]) == 3


async def test_user_code_sees_its_variables_and_nothing_of_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SUPERVISOR_X", "ours")
    world.secrets = {"TOKEN": "s3cret", "OSCAR_SERVICE_TOKEN": "t" * 64}
    ended = await world.run(called_event(b"x!"), "env", variables={"MODE": "fast", "JOB_UUID": "forged"})
    seen = dict(line.split("=", 1) for line in (ended.result or b"").decode().splitlines())
    assert (seen["MODE"], seen["TOKEN"], seen["OSCAR_SERVICE_TOKEN"]) == ("fast", "s3cret", "t" * 64)
    assert (seen["JOB_UUID"], seen["OSCAR_SERVICE_NAME"], seen["RESOURCE_ID"]) == (
        ended.invocation_id,
        "blur",
        "this-machine",
    )
    ours = {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "PWD",
        "_",
        "SHLVL",
        "OLDPWD",
        "EVENT",
        "EVENT_FILE_PATH",
        "INPUT_FILE_PATH",
    }
    platform = {"TMP_INPUT_DIR", "TMP_OUTPUT_DIR", "OSCAR_SERVICE_BASE_PATH", "TIDEMILL_INVOCATION_ID"}
    marks = {"TIDEMILL_ATTEMPT", "TIDEMILL_WORKER", "TIDEMILL_MARK"}
    named = {"MODE", "TOKEN", "OSCAR_SERVICE_TOKEN", "JOB_UUID", "OSCAR_SERVICE_NAME", "RESOURCE_ID"}
    assert set(seen) <= ours | platform | marks | named


async def test_what_passed_its_deadline_is_not_run(world: World) -> None:
    event = called_event(b"", deadline=datetime.now(UTC) - timedelta(seconds=1))
    ended = await world.run(event, f"touch {world.root}/ran")
    assert (ended.change, ended.reason) == (Change.FAILED, Reason.DEADLINE_PASSED)


async def test_what_passes_its_deadline_while_it_runs_is_stopped(world: World) -> None:
    event = called_event(b"", deadline=datetime.now(UTC) + timedelta(seconds=0.1))
    ended = await world.run(event, "sleep 60", timeout="PT30S")
    assert (ended.change, ended.reason) == (Change.FAILED, Reason.DEADLINE_PASSED)


async def test_what_was_cancelled_is_dropped_without_a_record(world: World) -> None:
    lease = await world.lease(called_event(b""))
    await world.attempt(lease, f"touch {world.root}/ran", cancelled=True).run()
    assert (await world.changes(), await world.backlog()) == ([], (0, 0))


async def test_what_killed_too_many_workers_is_set_aside_unrun(world: World) -> None:
    world.rules = replace(world.rules, max_lost=0)
    ended = await world.run(called_event(b""), f"touch {world.root}/ran")
    assert (ended.change, ended.reason) == (Change.DEAD, Reason.WORKER_LOST)


@pytest.mark.parametrize(
    ("cause", "changes", "backlog"),
    [
        (Interruption.CANCELLED, [Change.STARTED], (0, 0)),
        (Interruption.DRAINED, [Change.STARTED], (1, 0)),
        (Interruption.SERVICE_REMOVED, [Change.STARTED, Change.FAILED], (0, 0)),
    ],
)
async def test_an_interrupted_script_is_stopped_and_the_lease_answered(
    world: World, cause: Interruption, changes: list[Change], backlog: tuple[int, int]
) -> None:
    await interrupted(world, cause)
    assert [change.change for change in await world.changes()] == changes
    assert await world.backlog() == backlog


async def test_what_is_given_back_says_what_took_the_room_where_that_is_known(world: World) -> None:
    world.told = ended_by(b'{"reason": "EvictionByEvictionAPI", "message": "evicting"}')
    await interrupted(world, Interruption.DRAINED)
    _, given_back = await world.changes()
    assert (given_back.change, given_back.reason) == (Change.RETRIED, Reason.EVICTED)
    assert given_back.message == "EvictionByEvictionAPI: evicting"
    assert await world.backlog() == (1, 0)


async def interrupted(world: World, cause: Interruption) -> None:
    """An Attempt that is interrupted, twice, while its script runs."""
    lease = await world.lease(called_event(b""))
    attempt = world.attempt(lease, "touch up; sleep 60")
    running = asyncio.create_task(attempt.run())
    up = world.root / f"{lease.invocation.id}-1" / "up"
    await appears(up, empty=True)
    attempt.interrupt(cause)
    attempt.interrupt(cause)
    await running
