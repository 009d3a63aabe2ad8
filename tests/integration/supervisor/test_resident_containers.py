"""Resident scripts and batches in the user's container, which may run as any user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.supervisor.platform import Platform, platform
from tests.integration.supervisor.test_container_workers import start
from tests.integration.supervisor.user_container import CAN_UNSHARE
from tests.servers import Running
from tidemill_common.contracts.invocation import Change, Reason

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CAN_UNSHARE, reason="needs root, for namespaces"),
]

RESIDENT = """#!/bin/sh
exec 3<"$TIDEMILL_REQUESTS" 4>"$TIDEMILL_RESPONSES"
echo "loaded"
setsid sleep 1000 2>/dev/null &
echo '{"ready": true}' >&4
while read -r request <&3; do
  id=${request#*'"id":"'}; id=${id%%'"'*}
  file=${request#*'"input_file":"'}; file=${file%%'"'*}
  out=${request#*'"output_dir":"'}; out=${out%%'"'*}
  read -r text <"$file"
  if [ "$text" = crash ]; then exit 9; fi
  if [ "$text" = slow ]; then sleep 60; fi
  mkdir "$out/deep"
  echo "$text, please" >"$out/deep/${file##*/}"
  echo "said $text"
  echo "{\\"id\\": \\"$id\\"}" >&4
done
"""
BATCH = """
cd "$TMP_INPUT_DIR"
for f in *; do
  read -r text <"$f"
  [ "$text" != bad ] || exit 3
  mkdir -p "$TMP_OUTPUT_DIR/more"
  echo "$text" >"$TMP_OUTPUT_DIR/more/$f"
done
"""


@pytest.fixture
async def around(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


@pytest.fixture
def containers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def sleepers(around: Platform) -> int:
    """Processes that scripts of this Worker left running."""
    mark, found = str(around.directory).encode(), 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_sleep = (process / "cmdline").read_bytes().startswith(b"sleep\x001000")
            found += is_sleep and mark in (process / "environ").read_bytes()
    return found


async def test_a_script_stays_in_the_container_and_a_crash_costs_one_attempt(
    around: Platform, containers: ExitStack
) -> None:
    await around.define(
        RESIDENT, resident=True, output=[{"path": f"data/{around.name}/out"}], retry={"attempts": 1}, timeout="PT1M"
    )
    start(around, containers)
    bodies = [b"one\n", b"two\n", b"crash\n"]
    uploads = [await around.upload(f"data/{around.name}/in/{number}", body) for number, body in enumerate(bodies)]
    ended = [await around.ended(upload.id) for upload in uploads]
    # beside the others it might be asked before the crash
    uploads.append(await around.upload(f"data/{around.name}/in/3", b"three\n"))
    ended.append(await around.ended(uploads[-1].id))
    assert [(record.change, record.exit_code) for record in ended] == [
        (Change.SUCCEEDED, 0),
        (Change.SUCCEEDED, 0),
        (Change.DEAD, 9),
        (Change.SUCCEEDED, 0),
    ]
    assert await around.store.get(f"data/{around.name}/out/deep/1") == b"two, please\n"
    lines = [line for upload in uploads for line in await around.log_lines(upload.id)]
    assert sorted(lines) == ["loaded", "loaded", "said one", "said three", "said two"]


async def test_a_timeout_ends_a_resident_script_in_the_container(around: Platform, containers: ExitStack) -> None:
    await around.define(RESIDENT, resident=True, retry={"attempts": 1}, timeout="PT5S")
    start(around, containers)
    slow = await around.upload(f"data/{around.name}/in/slow", b"slow\n")
    quick = await around.upload(f"data/{around.name}/in/quick", b"quick\n")
    assert (await around.ended(slow.id)).reason is Reason.TIMEOUT
    assert sleepers(around) <= 1, "what the old one started went with it"
    assert (await around.ended(quick.id)).change is Change.SUCCEEDED


async def test_a_batch_in_the_container_is_halved(around: Platform, containers: ExitStack) -> None:
    await around.define(
        BATCH,
        batch={"size": 4, "wait": "PT1M"},
        output=[{"path": f"data/{around.name}/out"}],
        retry={"attempts": 1},
    )
    bodies = [b"one\n", b"bad\n", b"two\n", b"three\n"]
    uploads = [await around.upload(f"data/{around.name}/in/{number}.txt", body) for number, body in enumerate(bodies)]
    start(around, containers)
    ended = [await around.ended(upload.id) for upload in uploads]
    assert [(record.change, record.attempt) for record in ended] == [
        (Change.SUCCEEDED, 1),
        (Change.DEAD, 1),
        (Change.SUCCEEDED, 1),
        (Change.SUCCEEDED, 1),
    ]
    assert await around.store.get(f"data/{around.name}/out/more/3.txt") == b"three\n"
