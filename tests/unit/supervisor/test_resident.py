"""Scripts that start once, as real processes, with the bus and stores in memory."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.supervisor.builders import NAME, called_event, execution, invocation, place, service
from tidemill_common.bus import Bus, Lease, Leases
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts.contract import EventId
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import CHANGED, LOG_WRITTEN, Change, InvocationChanged, Reason
from tidemill_common.settings import BusSettings
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_supervisor.attempt import Attempt, Interruption
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.performance import Rules, Tools
from tidemill_supervisor.processes import ProcessScripts
from tidemill_supervisor.provision import Provision
from tidemill_supervisor.reporting import Reporter

SERVE = """
import os, sys, time, json
sys.path.insert(0, os.environ["PYTHONPATH"].split(":")[0])
requests, responses = open(os.environ["TIDEMILL_REQUESTS"]), open(os.environ["TIDEMILL_RESPONSES"], "w")
def say(answer):
    sys.stdout.flush()
    responses.write((answer if isinstance(answer, str) else json.dumps(answer)) + "\\n")
    responses.flush()
count = 0
print("loaded")
"""
READY = 'say({"ready": True})\n'
EACH = "for line in requests:\n    request = json.loads(line); count += 1; body = request.get('event', '')\n"


def python(body: str, *, ready: bool = True) -> str:
    """A resident script that does `body` for each `request`, and then answers `answer`."""
    loop = EACH + textwrap.indent(
        "answer = {'id': request['id']}\n" + textwrap.dedent(body) + "\nsay(answer)\n", "    "
    )
    return "#!/usr/bin/env python3\n" + SERVE + (READY if ready else "") + loop


class OneStore:
    """The platform's store alone."""

    def __init__(self) -> None:
        self.store = MemoryObjectStore("data", "tidemill")

    def is_shared(self, provider: str) -> bool:
        return True

    async def open(self, provider: str) -> ObjectStore:
        return self.store


@dataclass
class World:
    """One Worker's surroundings, with one slot."""

    bus: Bus
    leases: Leases
    root: Path
    tools: Tools
    provision: Provision
    stores: OneStore = field(default_factory=OneStore)
    revision: int = 1
    calls: int = 0

    async def lease(self, body: bytes = b"", **fields: Any) -> Lease:
        self.calls += 1
        event: EventReceived = called_event(body, id=EventId(f"c{self.calls}"), **fields)
        await self.bus.queue.submit(invocation(event))
        async with asyncio.timeout(5):
            return await anext(aiter(self.leases))

    def attempt(self, lease: Lease, script: str, **fields: Any) -> Attempt:
        values = {"resident": True, "retry": {"attempts": 1}, **fields}
        definition = Definition(
            service=service(script, **values), revision=self.revision, secrets={}, stores=self.stores
        )
        handling, at = self.provision.choose(lease, definition)
        record = execution(lease.invocation, lease.attempt)
        return Attempt(lease, definition, at, record, self.tools, cancelled=False, handling=handling)

    async def call(self, script: str, body: bytes = b"", **fields: Any) -> InvocationChanged:
        """One whole Attempt; returns its last record."""
        lease = await self.lease(body)
        await self.attempt(lease, script, **fields).run()
        return (await self.changes(lease.invocation.id))[-1]

    async def changes(self, of: str) -> list[InvocationChanged]:
        async with self.bus.log.read(CHANGED) as records:
            return [record.body async for record in records if record.body.invocation_id == of]

    async def lines(self, of: str) -> list[str]:
        async with self.bus.log.read(LOG_WRITTEN, key=f"{NAME}.{of}") as records:
            return [line async for record in records for line in record.body.lines]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    guardian = Guardian("m1")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(guardian.close)
        bus = await stack.enter_async_context(open_memory(BusSettings(url="memory://")))
        tools = Tools(
            bus_log=bus.log,
            reporter=Reporter(bus.log, bus.live),
            scripts=ProcessScripts(guardian),
            clock=lambda: datetime.now(UTC),
            jitter=lambda: 0.0,
            rules=Rules(grace=timedelta(milliseconds=100)),
        )
        provision = Provision(tools, place(tmp_path), slots=1)
        stack.push_async_callback(provision.close)
        leases = await stack.enter_async_context(bus.queue.leases(NAME, slots=8))
        yield World(bus, leases, tmp_path, tools, provision)


async def test_a_script_starts_once_and_answers_each_invocation(world: World) -> None:
    script = python("answer['result'] = f'{count} {body}'")
    first, second = [await world.call(script, body) for body in (b"one", b"two")]
    assert (first.change, first.exit_code, first.result) == (Change.SUCCEEDED, 0, b"1 one")
    assert (second.change, second.result) == (Change.SUCCEEDED, b"2 two")


async def test_what_it_writes_goes_to_the_invocation_that_runs(world: World) -> None:
    script = python("print('handling', body)")
    first, second = [await world.call(script, body) for body in (b"one", b"two")]
    assert await world.lines(first.invocation_id) == ["loaded", "handling one"]
    assert await world.lines(second.invocation_id) == ["handling two"]


async def test_outputs_are_stored_and_nothing_of_them_is_left_for_the_next(world: World) -> None:
    script = python("""
        found = os.listdir(request['output_dir']) + os.listdir(request['tmp_dir'])
        answer['result'] = repr(found)
        name = body or 'none'
        open(request['output_dir'] + '/' + name, 'w').write(open(request['input_file']).read())
    """)
    output = [{"path": "data/out"}]
    ended = [await world.call(script, body, output=output) for body in (b"one", b"two")]
    assert [record.outputs[0].path for record in ended] == ["data/out/one", "data/out/two"]
    assert [record.result for record in ended] == [b"[]", b"[]"]
    assert await world.stores.store.get("data/out/two") == b"two"


async def test_a_failure_is_told_and_costs_no_restart(world: World) -> None:
    script = python("""
        if body == 'bad':
            answer.update(exit_code=7, error='no such word')
        answer['result'] = str(count)
    """)
    bad = await world.call(script, b"bad")
    assert (bad.change, bad.reason, bad.exit_code) == (Change.DEAD, Reason.SCRIPT_FAILED, 7)
    assert bad.message == "no such word"
    assert (await world.call(script, b"good")).result == b"2"


async def test_a_crash_costs_only_its_invocation(world: World) -> None:
    script = python("if body == 'bad': print('oh'); sys.stdout.flush(); os._exit(9)\nanswer['result'] = str(count)")
    await world.call(script, b"good")
    bad = await world.call(script, b"bad")
    assert (bad.reason, bad.exit_code, bad.message) == (Reason.SCRIPT_FAILED, 9, "exit code 9, without an answer")
    assert bad.log_tail == "oh\n"
    assert (await world.call(script, b"good")).result == b"1"


async def test_one_that_ends_between_invocations_costs_none(world: World) -> None:
    script = python("answer['result'] = str(count)\nif body == 'last': say(answer); sys.exit(0)")
    assert (await world.call(script, b"last")).change is Change.SUCCEEDED
    assert (await world.call(script, b"next")).result == b"1"


async def test_a_timeout_ends_it_and_the_next_invocation_finds_a_new_one(world: World) -> None:
    script = python("if body == 'slow': time.sleep(60)\nanswer['result'] = str(count)")
    await world.call(script, b"", timeout=timedelta(seconds=5))
    slow = await world.call(script, b"slow", timeout=timedelta(milliseconds=200))
    assert (slow.change, slow.reason) == (Change.DEAD, Reason.TIMEOUT)
    assert (await world.call(script, b"", timeout=timedelta(seconds=5))).result == b"1"


async def test_the_time_to_load_is_not_the_invocations(world: World) -> None:
    script = python("answer['result'] = str(count)", ready=False)
    script = script.replace("for line in", "time.sleep(0.3)\n" + READY + "for line in")
    assert (await world.call(script, timeout=timedelta(milliseconds=200))).change is Change.SUCCEEDED


async def test_cancelling_stops_it_and_the_next_invocation_finds_a_new_one(world: World) -> None:
    script = python(
        "print('begun'); sys.stdout.flush()\nif body == 'slow': time.sleep(60)\nanswer['result']=str(count)"
    )
    lease = await world.lease(b"slow")
    attempt = world.attempt(lease, script)
    running = asyncio.create_task(attempt.run())
    async with asyncio.timeout(10):
        while "begun" not in await world.lines(lease.invocation.id):
            await asyncio.sleep(0.01)
    attempt.interrupt(Interruption.CANCELLED)
    await running
    assert [record.change for record in await world.changes(lease.invocation.id)] == [Change.STARTED]
    assert (await world.call(script)).result == b"1"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("'nonsense'", "it answered no JSON: 'nonsense'"),
        ("'[]'", "it answered no JSON object: '[]'"),
        ("{'id': 'x'}", "it answered 'x', but was asked for"),
        ("{'id': request['id'], 'exit_code': 'many'}", "exit_code must be a number from 0 to 255, not 'many'"),
    ],
)
async def test_garbage_is_told_apart_and_ends_the_script(world: World, answer: str, message: str) -> None:
    script = python(f"if body == 'bad': answer = {answer}\nelse: answer['result'] = str(count)")
    bad = await world.call(script, b"bad")
    assert (bad.change, bad.reason) == (Change.DEAD, Reason.SCRIPT_FAILED)
    assert message in (bad.message or "")
    assert (await world.call(script)).result == b"1"


async def test_an_answer_that_nobody_asked_for_restarts_it_and_is_told(world: World) -> None:
    script = python("answer['result'] = str(count)\nif body == 'twice': responses.write(json.dumps(answer) + '\\n')")
    ended = await world.call(script, b"twice")
    assert (await world.lines(ended.invocation_id))[1].startswith("[tidemill] it answered what nobody asked")
    assert (await world.call(script)).result == b"1"


async def test_one_that_does_not_say_that_it_is_ready_is_told_so(world: World) -> None:
    script = "#!/bin/sh\necho hello > $TIDEMILL_RESPONSES; sleep 60"
    ended = await world.call(script)
    assert ended.reason is Reason.SCRIPT_FAILED
    assert ended.message == "its first line on TIDEMILL_RESPONSES must be {\"ready\": true}, not 'hello'"


async def test_one_that_ends_at_once_fails_its_invocation_with_its_exit_code(world: World) -> None:
    ended = await world.call("#!/bin/sh\necho no model >&2; exit 3")
    assert (ended.reason, ended.exit_code, ended.log_tail) == (Reason.SCRIPT_FAILED, 3, "no model\n")
    assert ended.message == 'exit code 3, before it said {"ready": true}'


async def test_a_missing_interpreter_is_told(world: World) -> None:
    ended = await world.call("#!/no/such/program\n")
    assert ended.reason is Reason.START_FAILED


async def test_a_new_revision_starts_it_again(world: World) -> None:
    script = python("answer['result'] = str(count)")
    await world.call(script)
    world.revision = 2
    assert (await world.call(script)).result == b"1"


async def test_its_environment_has_nothing_of_one_invocation(world: World) -> None:
    script = python("answer['result'] = ' '.join(sorted(os.environ))")
    variables = (await world.call(script)).result or b""
    forbidden = {"TIDEMILL_INVOCATION_ID", "JOB_UUID", "EVENT", "INPUT_FILE_PATH", "TMP_OUTPUT_DIR"}
    assert not forbidden & set(variables.decode().split())


async def test_a_shell_script_can_be_resident(world: World) -> None:
    script = """#!/bin/sh
echo '{"ready": true}' > "$TIDEMILL_RESPONSES"
while read -r line; do
  id=${line#*'"id":"'}; id=${id%%'"'*}
  echo "{\\"id\\": \\"$id\\", \\"result\\": \\"from sh\\"}" > "$TIDEMILL_RESPONSES"
done < "$TIDEMILL_REQUESTS"
"""
    assert [(await world.call(script)).result for _ in range(3)] == [b"from sh"] * 3


async def test_the_helper_answers(world: World) -> None:
    script = """#!/usr/bin/env python3
from tidemill_resident import serve
def handle(request):
    if request.event == {"what": "raise"}:
        raise ValueError("no")
    if request.event == {"what": "exit"}:
        raise SystemExit(4)
    return request.event["what"]
serve(handle)
"""
    good = await world.call(script, b'{"what": "good"}')
    raised = await world.call(script, b'{"what": "raise"}')
    left = await world.call(script, b'{"what": "exit"}')
    assert good.result == b"good"
    assert (raised.exit_code, raised.message) == (1, "ValueError: no")
    assert "Traceback" in (raised.log_tail or "")
    assert left.exit_code == 4


async def test_a_large_event_travels_as_a_file_and_a_large_request_is_not_cut(world: World) -> None:
    script = python("""
        path = request.get('event_file')
        answer['result'] = str(len(open(path).read() if path else body))
    """)
    assert [(await world.call(script, b"x" * size)).result for size in (90_000, 200_000, 1)] == [
        b"90000",
        b"200000",
        b"1",
    ]


async def test_nothing_of_it_is_left_when_the_worker_ends(world: World) -> None:
    script = python("answer['result'] = str(os.getpid())\nos.system('setsid sleep 60 &')")
    pid = int((await world.call(script)).result or b"0")
    await world.provision.close()
    assert not Path(f"/proc/{pid}").exists()
    assert sorted(path.name for path in world.root.iterdir()) == ["python", "workspace-0"]
