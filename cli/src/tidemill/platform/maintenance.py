"""The bus alone, for work that is done while the platform stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tidemill.errors import CliError
from tidemill.platform.components import server_specs
from tidemill.platform.installation import Installation
from tidemill.platform.processes import Child, Tell
from tidemill.platform.records import end_leftovers, only_one, running_up


@asynccontextmanager
async def bus_running(directory: Path, *, tell: Tell) -> AsyncIterator[Installation]:
    """The installation with its bus running: that of `up` if it runs, else one started for the block.

    Raises:
        CliError: There is no installation, or the bus does not start.
    """
    installation = Installation.existing(directory)
    if running_up(installation.layout) is not None:
        yield installation
        return
    with only_one(installation.layout) as alone:
        if not alone:
            raise CliError(f"{directory} is in use by another tidemill command")
        end_leftovers(installation.layout)
        installation = installation.with_keys()
        bus = Child(server_specs(installation)[0], installation.layout, tell=tell)
        bus.start()
        try:
            await bus.wait_ready()
            yield installation
        finally:
            await bus.stop()
