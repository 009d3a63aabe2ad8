"""The bus's Streams of an embedded platform: made at the first start, changed only by `tidemill streams apply`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tidemill.errors import CliError
from tidemill.platform.installation import Installation
from tidemill_common.bus import Bus, StreamAction
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.streams import describe
from tidemill_common.errors import TidemillError


def operator_bus(installation: Installation) -> AbstractAsyncContextManager[Bus]:
    """The bus, with the rights of an operator."""
    return open_bus(installation.bus_settings("operator"), name="tidemill-cli")


async def prepare_streams(installation: Installation) -> None:
    """Make what is missing.

    Raises:
        CliError: A Stream that is there differs from the table: it holds data, so an operator decides.
    """
    try:
        async with operator_bus(installation) as bus:
            plan = await bus.streams.plan()
            if all(change.action is StreamAction.CREATE for change in plan):
                await bus.streams.apply(plan)
                return
    except TidemillError as error:
        raise CliError(f"the bus cannot be prepared: {error}") from error
    lines = "\n".join(f"  {describe(change)}" for change in plan)
    raise CliError(
        f"this version of tidemill wants other Streams than those that are there:\n{lines}\n"
        f"To change them: tidemill streams apply --dir {installation.layout.root}"
    )
