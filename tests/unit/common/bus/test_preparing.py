"""Streams are prepared by one process with the right to, while all others wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from tidemill_common.bus import Bus, StreamAction, StreamChange
from tidemill_common.bus.opening import open_bus
from tidemill_common.bus.preparing import Task, attempt, main
from tidemill_common.errors import UnavailableError, UnsupportedError
from tidemill_common.settings import BusSettings


class _Streams:
    """Of a server that differs as told."""

    def __init__(self, *plan: StreamChange) -> None:
        self.pending: Sequence[StreamChange] = plan
        self.applied: Sequence[StreamChange] = ()

    async def plan(self) -> Sequence[StreamChange]:
        return self.pending

    async def apply(self, plan: Sequence[StreamChange]) -> None:
        self.applied, self.pending = plan, ()


def _bus(streams: _Streams) -> Bus:
    """A bus of which no more is needed."""
    return cast(Bus, SimpleNamespace(streams=streams))


def _change(action: StreamAction) -> StreamChange:
    return StreamChange(
        stream="EVENTS", action=action, fields={} if action is StreamAction.CREATE else {"max_age": (1, 2)}
    )


async def test_waiting_goes_on_while_streams_are_missing() -> None:
    streams = _Streams(_change(StreamAction.CREATE))
    with pytest.raises(UnavailableError, match="EVENTS"):
        await attempt(Task.WAIT, _bus(streams))
    assert not streams.applied


async def test_waiting_ends_when_all_is_as_it_should_be() -> None:
    async with open_bus(BusSettings(url="memory://"), name="test") as bus:
        await attempt(Task.CREATE, bus)
        await attempt(Task.WAIT, bus)


async def test_creating_makes_what_is_missing() -> None:
    streams = _Streams(_change(StreamAction.CREATE))
    await attempt(Task.CREATE, _bus(streams))
    assert len(streams.applied) == 1


async def test_creating_never_changes_a_stream_that_is_there() -> None:
    streams = _Streams(_change(StreamAction.CREATE), _change(StreamAction.UPDATE))
    with pytest.raises(UnsupportedError, match="max_age is 1, should be 2"):
        await attempt(Task.CREATE, _bus(streams))
    assert not streams.applied


async def test_migrating_changes_it() -> None:
    streams = _Streams(_change(StreamAction.UPDATE))
    await attempt(Task.MIGRATE, _bus(streams))
    assert len(streams.applied) == 1


@pytest.mark.parametrize("arguments", [[], ["destroy"], ["create", "wait"]])
def test_a_wrong_command_line_is_a_wrong_setting(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 78
    assert "create|migrate|wait" in capsys.readouterr().err
