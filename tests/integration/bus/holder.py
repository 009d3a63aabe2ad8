"""A Worker that leases one Invocation, says so, and never answers: to be killed."""

from __future__ import annotations

import asyncio
import sys

from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.settings import BusSettings


async def main(url: str, service: str) -> None:
    """Hold one Lease, extending it, until killed."""
    settings = BusSettings.model_validate({"url": url, "lease": "PT4S"})
    async with (
        open_bus(settings, name="holder") as bus,
        bus.queue.leases(ServiceName(service), slots=1) as leases,
    ):
        lease = await anext(aiter(leases))
        sys.stdout.write(f"{lease.invocation.id}\n")
        sys.stdout.flush()
        while True:
            await asyncio.sleep(0.5)
            await lease.extend()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
