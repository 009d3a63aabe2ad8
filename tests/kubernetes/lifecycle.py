"""What became of Invocations, read from the bus of a release: the API shows only how each is now."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.kubernetes.release import NAME, Release
from tests.kubernetes.waiting import until
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.invocation import CHANGED, InvocationChanged
from tidemill_common.settings import BusSettings


class Lifecycle:
    """The log of a release, read as its gateway does."""

    def __init__(self, release: Release) -> None:
        self._url = f"nats://127.0.0.1:{release.forward(f'service/{NAME}-nats', 4222)}"
        self._credentials = release.secret(f"{NAME}-bus", "bus-gateway.creds")

    async def of(self, service: str) -> Sequence[InvocationChanged]:
        """All that was told of a Service's Invocations so far, in order. The port may just be led to another pod."""
        found: Sequence[InvocationChanged] = await until(lambda: self._read(service), "the log is read", seconds=120)
        return found

    async def _read(self, service: str) -> Sequence[InvocationChanged]:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "bus.creds")
            file.write_text(self._credentials)
            settings = BusSettings(url=self._url, credentials_file=file)
            async with open_bus(settings, name="test") as bus, bus.log.read(CHANGED, key=service) as records:
                return [record.body async for record in records]
