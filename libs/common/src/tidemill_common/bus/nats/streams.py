"""Carries out plans for Streams on a NATS server, by raw JSON so that fields we do not know are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidemill_common.bus import StreamAction, StreamChange
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.bus.streams import StreamSpec, describe, stream_plan, stream_table
from tidemill_common.errors import ConflictError, NotFoundError, UnsupportedError
from tidemill_common.settings import BusSettings


class NatsStreams:
    """The Streams of one server against the table that the settings make."""

    def __init__(self, wire: Wire, settings: BusSettings) -> None:
        self._wire = wire
        self._table = {spec.name: spec for spec in stream_table(settings)}

    async def plan(self) -> Sequence[StreamChange]:
        """What differs between the server and the table; empty: nothing."""
        configs = {name: (await self._info(name) or {}).get("config") for name in self._table}
        return stream_plan(tuple(self._table.values()), configs)

    async def apply(self, changes: Sequence[StreamChange]) -> None:
        """Carry out a plan; see `Streams.apply`."""
        for change in changes:
            if change.action is StreamAction.RECREATE:
                await self._refuse_unless_empty(change)
        for change in changes:
            await self._carry_out(self._table[change.stream], change.action)

    async def _info(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._wire.api(f"STREAM.INFO.{name}")
        except NotFoundError:
            return None

    async def _refuse_unless_empty(self, change: StreamChange) -> None:
        info = await self._info(change.stream)
        kept = 0 if info is None else int(info["state"]["messages"])
        if kept:
            raise UnsupportedError(f"{describe(change)}: it holds {kept} messages, which this would lose")

    async def _carry_out(self, spec: StreamSpec, action: StreamAction) -> None:
        if action is StreamAction.RECREATE:
            await self._wire.api(f"STREAM.DELETE.{spec.name}")
        if action is StreamAction.UPDATE:
            await self._update(spec)
        else:
            await self._create(spec)

    async def _create(self, spec: StreamSpec) -> None:
        try:
            await self._wire.api(f"STREAM.CREATE.{spec.name}", spec.config())
        except ConflictError:  # another component was faster; its table may differ from ours
            if any(change.stream == spec.name for change in await self.plan()):
                raise

    async def _update(self, spec: StreamSpec) -> None:
        info = await self._info(spec.name)
        current = {} if info is None else info["config"]
        await self._wire.api(f"STREAM.UPDATE.{spec.name}", {**current, **spec.config()})
