"""From what Workers ask for to Attempts on WORK, on the in-memory bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.retries import storing_retries
from tests.unit.storage_bridge.samples import NOW, called, memory_bus
from tidemill_common.bus import Backlog, Bus, WorkQueue
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.poison import POISONED, Poison
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import AccessDeniedError, UnavailableError

OCR = ServiceName("ocr")
OTHER = ServiceName("other")


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with memory_bus() as opened:
        yield opened


class FailingQueue:
    """A queue on which planning fails a few times."""

    def __init__(self, queue: WorkQueue, *errors: Exception) -> None:
        self.submit, self.leases, self.backlog, self.purge = queue.submit, queue.leases, queue.backlog, queue.purge
        self._queue, self._errors = queue, list(errors)

    async def plan(self, retry: RetryAsked) -> bool:
        if self._errors:
            raise self._errors.pop(0)
        return await self._queue.plan(retry)


def body(service: ServiceName, identity: str = "i1") -> bytes:
    made = Invocation.of(called(service), service=service, owner="ana", revision=1, trigger="direct", now=NOW)
    return made.model_copy(update={"id": InvocationId(identity)}).encode()


def asked(**fields: Any) -> RetryAsked:
    values = {
        "service": OCR,
        "lane": Lane.BATCH,
        "invocation_id": "i1",
        "invocation": body(OCR),
        "attempt": 2,
        "failures": 1,
    }
    return RetryAsked.model_construct(**{**values, **fields})


async def ask(bus: Bus, retry: RetryAsked, key: str = OCR) -> None:
    await bus.log.append(RETRY_ASKED, retry, key=key)


async def until_backlog(bus: Bus, **wanted: Backlog) -> None:
    async with asyncio.timeout(5):
        while await bus.queue.backlog() != wanted:
            await asyncio.sleep(0)


async def poisons(bus: Bus, number: int) -> list[Poison]:
    async with asyncio.timeout(5), bus.log.read(POISONED, follow=True) as records:
        return [(await anext(records)).body for _ in range(number)]


async def test_what_is_asked_for_is_queued_and_its_ask_is_gone(bus: Bus) -> None:
    await ask(bus, asked())
    async with storing_retries(bus):
        await until_backlog(bus, ocr=Backlog(batch=1))
        async with asyncio.timeout(5), bus.queue.leases(OCR, slots=1) as leases:
            lease = await anext(aiter(leases))
            assert (lease.invocation.id, lease.attempt, lease.failures) == ("i1", 2, 1)
            await lease.done()
        oldest, newest = await bus.log.end(RETRY_ASKED)
        assert oldest == newest + 1


async def test_an_ask_that_comes_twice_is_one_attempt(bus: Bus) -> None:
    """As when a Worker repeats it, or whoever stored it died before it had said so."""
    await bus.queue.plan(asked())
    for _ in range(2):
        await ask(bus, asked())
    async with storing_retries(bus):
        await until_backlog(bus, ocr=Backlog(batch=1))


@pytest.mark.parametrize(
    "wrong",
    [
        asked(service=OTHER, invocation=body(OTHER)),
        asked(invocation=body(OTHER)),
        asked(invocation=body(OCR, "i2")),
        asked(invocation=b"not an Invocation"),
    ],
)
async def test_an_ask_that_is_not_about_its_senders_service_is_set_aside(bus: Bus, wrong: RetryAsked) -> None:
    await ask(bus, wrong)
    await ask(bus, asked(invocation_id="i3", invocation=body(OCR, "i3")))
    async with storing_retries(bus):
        (poison,) = await poisons(bus, 1)
        assert (poison.service, poison.lane, poison.body) == (OCR, Lane.BATCH, wrong.invocation)
        await until_backlog(bus, ocr=Backlog(batch=1))


async def test_a_bus_that_is_away_for_a_while_delays_a_retry_and_loses_none(bus: Bus) -> None:
    await ask(bus, asked())
    away = [UnavailableError("away", retry_after=timedelta(milliseconds=1)) for _ in range(5)]
    async with storing_retries(replace(bus, queue=FailingQueue(bus.queue, *away))):
        await until_backlog(bus, ocr=Backlog(batch=1))


async def test_stopping_while_the_bus_is_away_leaves_the_ask_to_the_next(bus: Bus) -> None:
    await ask(bus, asked())
    away = UnavailableError("away", retry_after=timedelta(milliseconds=1))
    failing = FailingQueue(bus.queue, *[away] * 9999)
    async with storing_retries(replace(bus, queue=failing)):
        await asyncio.sleep(0)
    assert await bus.queue.backlog() == {OCR: Backlog(delayed=1)}
    async with storing_retries(bus):
        await until_backlog(bus, ocr=Backlog(batch=1))


async def test_what_can_never_be_queued_is_kept_as_a_dead_letter(bus: Bus) -> None:
    await ask(bus, asked())
    async with storing_retries(replace(bus, queue=FailingQueue(bus.queue, AccessDeniedError("no")))):
        (poison,) = await poisons(bus, 1)
        assert poison.body == body(OCR)
        await until_backlog(bus)
