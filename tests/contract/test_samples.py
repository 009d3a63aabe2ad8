"""`samples/` is append-only: what was published parses for ever, into the same value; documents are current."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from tidemill_common.contracts import asyncapi
from tidemill_common.contracts.contract import Contract
from tidemill_common.contracts.event import EventReceived
from tidemill_common.contracts.invocation import DeadLetter, Invocation, InvocationChanged, LogWritten
from tidemill_common.contracts.poison import Poison
from tidemill_common.contracts.retry import RetryAsked
from tidemill_common.contracts.service import ServiceDefined

SAMPLES: Final = Path(__file__).parent / "samples"
CONTRACTS: Final[dict[str, type[Contract]]] = {
    "event.v1.received": EventReceived,
    "work.v1": Invocation,
    "invocation.v1": InvocationChanged,
    "service.v1.defined": ServiceDefined,
    "log.v1.written": LogWritten,
    "deadletter.v1.aside": DeadLetter,
    "deadletter.v1.poison": Poison,
    "retry.v1.asked": RetryAsked,
}


def samples() -> list[Any]:
    """Every sample with the contract of its folder."""
    return [
        pytest.param(CONTRACTS[path.parent.name], path, id=f"{path.parent.name}/{path.stem}")
        for path in sorted(SAMPLES.glob("*/*.json"))
    ]


@pytest.mark.parametrize(("contract", "path"), samples())
def test_what_was_published_still_parses_and_is_written_the_same(contract: type[Contract], path: Path) -> None:
    body = path.read_bytes()
    assert TypeAdapter(dict[str, Any]).validate_json(contract.decode(body).encode()) == TypeAdapter(
        dict[str, Any]
    ).validate_json(body)


def test_every_contract_has_a_sample() -> None:
    assert {path.parent.name for path in SAMPLES.glob("*/*.json")} == set(CONTRACTS)


def test_a_field_of_a_later_version_is_ignored() -> None:
    body = (SAMPLES / "invocation.v1" / "requested.json").read_bytes().rstrip()
    assert InvocationChanged.decode(body[:-1] + b',"added_in_2031":{"x":1}}') == InvocationChanged.decode(body)


def test_the_asyncapi_document_is_current() -> None:
    committed = Path(__file__).parents[2] / "contracts" / "asyncapi.json"
    assert committed.read_text() == asyncapi.render(), (
        "run: python -m tidemill_common.contracts.asyncapi > contracts/asyncapi.json"
    )
