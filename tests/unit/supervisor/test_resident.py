"""Scripts that start once, as real processes, with the bus and stores in memory."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.supervisor.scripts_suite import appears, leap
from tests.unit.supervisor.surroundings import World, open_world
from tidemill_common.contracts.invocation import Change, Reason
from tidemill_supervisor.attempt import Interruption

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


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, resident=True) as made:
        yield made


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
        os.makedirs(request['tmp_dir'] + '/deep')
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
    await world.call(script, b"")
    slow = await world.call(script, b"slow", timeout=timedelta(milliseconds=200))
    assert (slow.change, slow.reason) == (Change.DEAD, Reason.TIMEOUT)
    assert (await world.call(script, b"")).result == b"1"


async def test_a_workspace_that_grows_too_large_ends_it(world: World) -> None:
    script = python("""
        if body == 'large':
            for number in range(40):
                open(request['tmp_dir'] + f'/{number}', 'wb').write(b'x' * 100_000)
            time.sleep(60)
    """)
    large = await world.call(script, b"large", ephemeral_storage_request="1Mi")
    assert (large.change, large.reason) == (Change.DEAD, Reason.DISK_LIMIT)
    assert (await world.call(script)).change is Change.SUCCEEDED


async def test_the_time_to_load_is_not_the_invocations(world: World) -> None:
    loading, go = world.root / "loading", world.root / "go"
    load = f"open('{loading}', 'w').close()\nwhile not os.path.exists('{go}'): time.sleep(0.01)\n"
    script = python("answer['result'] = str(count)", ready=False).replace("for line in", load + READY + "for line in")
    called = asyncio.create_task(world.call(script, timeout=timedelta(seconds=5)))
    await appears(loading, empty=True)
    leap(timedelta(seconds=6))
    go.touch()
    assert (await called).change is Change.SUCCEEDED


async def test_cancelling_stops_it_and_the_next_invocation_finds_a_new_one(world: World) -> None:
    script = python(
        "print('begun'); sys.stdout.flush()\nif body == 'slow': time.sleep(60)\nanswer['result']=str(count)"
    )
    lease = await world.lease(b"slow")
    attempt = world.attempt(lease, script)
    running = asyncio.create_task(attempt.run())
    async with asyncio.timeout(60):
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
