"""Records fit into messages, and repeats of one are one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.supervisor.builders import NOW, called_event, execution, invocation
from tidemill_common.bus.memory import open_memory
from tidemill_common.contracts import MAX_BODY_BYTES
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import CHANGED, Change, Reason
from tidemill_common.errors import UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.reporting import Reporter, changed, dead_letter
from tidemill_supervisor.results import INLINE_BYTES


@settings(max_examples=30)
@given(
    st.integers(0, 3000),
    st.integers(0, INLINE_BYTES),
    st.text(st.characters(max_codepoint=300), max_size=50),
    st.sampled_from(["a", "é", "\0", '"']),
)
def test_a_record_of_any_outcome_fits_into_a_message(outputs: int, result: int, name: str, sign: str) -> None:
    outcome = Outcome(
        reason=Reason.COMPLETED,
        message=sign * 5000,
        outputs=tuple(ArtifactRef(path=f"data/out/{name}{number}") for number in range(outputs)),
        result=b"r" * result,
        log_tail=sign * (4096 // len(sign.encode())),
    )
    record = changed(execution(invocation()), Change.SUCCEEDED, NOW, outcome)
    assert len(record.encode()) < MAX_BODY_BYTES
    assert record.result == b"r" * result
    assert len(record.outputs) == outputs or f"{outputs} outputs" in (record.message or "")


def test_a_dead_letter_with_the_largest_payload_fits_into_a_message() -> None:
    event = called_event(b"\xff" * 32 * 1024)
    outcome = Outcome(reason=Reason.SCRIPT_FAILED, message="m" * 5000, log_tail="t" * 4096)
    assert len(dead_letter(execution(invocation(event)), outcome, NOW).encode()) < MAX_BODY_BYTES


async def test_reporting_again_stores_one_record() -> None:
    async with open_memory(BusSettings(url="memory://")) as bus:
        reporter = Reporter(bus.log, bus.live)
        for _ in range(2):
            await reporter.ended(execution(invocation()), Change.SUCCEEDED, Outcome(reason=Reason.COMPLETED), NOW)
        async with bus.log.read(CHANGED) as records:
            assert len([record async for record in records]) == 1


async def test_a_bus_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill_supervisor.appending._FIRST_PAUSE", timedelta())
    async with open_memory(BusSettings(url="memory://")) as bus:
        append, failures = bus.log.append, iter([UnavailableError("away")] * 3)

        async def failing(*arguments: object, **options: object) -> object:
            for error in failures:
                raise error
            return await append(*arguments, **options)  # type: ignore[arg-type,type-var]  # passed on as they came

        monkeypatch.setattr(bus.log, "append", failing)
        async with asyncio.timeout(5):
            await Reporter(bus.log, bus.live).started(execution(invocation()), NOW)
        async with bus.log.read(CHANGED) as records:
            assert [record.body.change async for record in records] == [Change.STARTED]
