"""Workers in a real cluster, started by a real scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kubernetes.world import USER_IMAGE, World, world
from tests.servers import Running
from tidemill_common.contracts.invocation import Change

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]
_IO = {
    "input": [{"storage_provider": "minio.default", "path": "data/in"}],
    "output": [{"storage_provider": "minio.default", "path": "data/out"}],
}
_SCRIPT = '#!/bin/sh\ntr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"\n'


@pytest.fixture
async def cluster(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats, seaweed, tmp_path) as made:
        yield made


async def test_a_file_becomes_a_result_in_a_pod(cluster: World) -> None:
    cluster.start()
    await cluster.platform.define(_SCRIPT, image=USER_IMAGE, cpu="0.1", memory="64Mi", **_IO)
    invocation = await cluster.platform.upload("data/in/a.txt", b"hello")
    ended = await cluster.platform.ended(invocation.id, timeout=60)
    assert ended.change is Change.SUCCEEDED, ended.model_dump_json(exclude_none=True)
    assert await cluster.platform.objects("data/out/") == ["data/out/a.txt"]
