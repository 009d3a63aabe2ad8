"""Acknowledgements leave as bursts, and each waits for the answer to the last of its burst."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from tidemill_common.bus.nats.acking import Acknowledgements
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import UnavailableError


class _Wire:
    """Keeps what was asked; answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def repeat(self, subject: str, body: bytes, *, after: Sequence[str]) -> None:
        assert body == b"+ACK"
        self.asked.append((*after, subject))
        await asyncio.shield(self.answer)


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_of_one_turn_are_confirmed_by_one_answer() -> None:
    wire = _Wire()
    acknowledgements = Acknowledgements(cast(Wire, wire))
    sent = [acknowledgements.send(reply) for reply in "abc"]
    await _turns()
    assert wire.asked == [("a", "b", "c")]
    assert not any(each.done() for each in sent)
    wire.answer.set_result(None)
    await asyncio.gather(*sent)


async def test_those_of_the_next_turn_do_not_wait_for_it() -> None:
    wire = _Wire()
    acknowledgements = Acknowledgements(cast(Wire, wire))
    acknowledgements.send("a")
    await _turns()
    acknowledgements.send("b")
    await _turns()
    assert wire.asked == [("a",), ("b",)]
    wire.answer.set_result(None)
    await _turns()


async def test_without_an_answer_none_is_confirmed() -> None:
    wire = _Wire()
    acknowledgements = Acknowledgements(cast(Wire, wire))
    sent = [acknowledgements.send(reply) for reply in "ab"]
    wire.answer.set_exception(UnavailableError("no answer"))
    for each in sent:
        with pytest.raises(UnavailableError):
            await each


async def test_one_who_no_longer_waits_is_still_acknowledged_and_stops_nobody() -> None:
    wire = _Wire()
    acknowledgements = Acknowledgements(cast(Wire, wire))
    gone, other = acknowledgements.send("a"), acknowledgements.send("b")
    gone.cancel()
    await _turns()
    assert wire.asked == [("a", "b")]
    wire.answer.set_result(None)
    await other
