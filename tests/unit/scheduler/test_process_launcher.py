"""Workers that are processes: what becomes of one that ends while it is asked to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tidemill_common.contracts.contract import ServiceName, WorkerId
from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.process import ProcessLauncher
from tidemill_scheduler.launchers.records import WorkerRecord
from tidemill_scheduler.ports import WorkerSpec

SERVICE = Service(name=ServiceName("blur"), image="", script="")
SPEC = WorkerSpec(
    id=WorkerId("blur-1"),
    service=SERVICE.name,
    owner="ada",
    pool="local",
    revision=1,
    slots=1,
    cpu_millicores=100,
    memory_bytes=1024,
)


class Overtaken(ProcessLauncher):
    """A plan that was made before a Worker ended is followed while it is cleaned up after."""

    loop: asyncio.AbstractEventLoop

    def _clean_up(self, record: WorkerRecord) -> None:
        super()._clean_up(record)
        for act in (self.stop, self.kill):
            asyncio.run_coroutine_threadsafe(act(record.spec.id), self.loop).result()


async def test_a_worker_that_has_just_ended_is_neither_signalled_nor_recorded_again(tmp_path: Path) -> None:
    launcher = Overtaken(
        command=["true"],
        environment={},
        state_dir=tmp_path / "state",
        workspace_root=tmp_path / "workspaces",
        log_dir=tmp_path / "logs",
    )
    launcher.loop = asyncio.get_running_loop()
    await launcher.start(SPEC, SERVICE)
    async with asyncio.timeout(30):
        ended = await anext(launcher.exits())
    await launcher.close()

    assert (ended.exit_code, ended.was_draining) == (0, False)
    assert list((tmp_path / "state" / "workers").iterdir()) == []
