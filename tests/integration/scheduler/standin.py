"""A stand-in for the supervisor: reports, leases, finishes or holds Invocations, drains on SIGTERM.

Run as `python standin.py`. TIDEMILL_SUPERVISOR_BEHAVIOUR: `work` (default: each Invocation is done at once), `hold`
(each is held until the file `<workspaces>/release` is there), `crash` (exit 70), `escape` (leaves a process in
another session).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from tidemill_common.bus import Bus, Leases
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.lifecycle import stop_on_signals
from tidemill_common.settings import BusSettings

PREFIX = "TIDEMILL_SUPERVISOR_"
BEHAVIOUR = os.environ.get(f"{PREFIX}BEHAVIOUR", "work")
SERVICE = os.environ[f"{PREFIX}SERVICE"]
WORKER = os.environ[f"{PREFIX}WORKER_ID"]
WORKSPACES = Path(os.environ[f"{PREFIX}WORKSPACE_DIR"])


async def report(bus: Bus, busy: int) -> None:
    await bus.live.publish(f"live.worker.{SERVICE}.{WORKER}", json.dumps({"busy": busy, "slots": 1}).encode())


async def work(bus: Bus, leases: Leases) -> None:
    async for lease in leases:
        await report(bus, 1)
        while BEHAVIOUR == "hold" and not (WORKSPACES / "release").exists():
            await asyncio.sleep(0.02)
        await lease.done()
        await report(bus, 0)


async def main() -> int:
    if BEHAVIOUR == "crash":
        print("no such library", file=sys.stderr)
        return 70
    if BEHAVIOUR == "escape":
        with (WORKSPACES / "escaped").open("w") as file:
            child = subprocess.Popen(["sleep", "300"], start_new_session=True)  # noqa: ASYNC220  nothing else runs yet
            file.write(str(child.pid))
    settings = BusSettings(url=os.environ[f"{PREFIX}BUS__URL"])
    async with (
        stop_on_signals() as stopping,
        open_bus(settings, name="standin") as bus,
        bus.queue.leases(ServiceName(SERVICE), slots=1) as leases,
    ):
        await report(bus, 0)
        working = asyncio.create_task(work(bus, leases))
        await stopping.wait()
        leases.stop()
        await working
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
