"""The messages as an AsyncAPI 3 document, from the contracts: `python -m tidemill_common.contracts.asyncapi`."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from tidemill_common.contracts.contract import Contract, Subject
from tidemill_common.contracts.event import RECEIVED
from tidemill_common.contracts.invocation import LOG_WRITTEN, SET_ASIDE, Change, Invocation, changed_subject
from tidemill_common.contracts.poison import POISONED
from tidemill_common.contracts.retry import RETRY_ASKED
from tidemill_common.contracts.service import DEFINED

_STREAMS: Final[dict[str, tuple[Subject[Any], ...]]] = {
    "EVENTS": (RECEIVED,),
    "LIFECYCLE": tuple(changed_subject(change) for change in Change),
    "DEFINITIONS": (DEFINED,),
    "LOGS": (LOG_WRITTEN,),
    "DEAD": (SET_ASIDE, POISONED),
    "RETRIES": (RETRY_ASKED,),
}


def document() -> dict[str, Any]:
    """The whole document, in a stable order."""
    channels: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for stream, subjects in _STREAMS.items():
        for subject in subjects:
            channels[subject.pattern] = _channel(subject.pattern, subject.contract, stream)
            schemas[_title(subject.contract)] = _schema(subject.contract)
    channels["work"] = _channel("adapter's own", Invocation, "WORK")
    schemas[_title(Invocation)] = _schema(Invocation)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "tidemill messages", "version": "1"},
        "channels": channels,
        "components": {"schemas": schemas},
    }


def _channel(address: str, contract: type[Contract], stream: str) -> dict[str, Any]:
    title = _title(contract)
    return {
        "address": address,
        "description": f"Stream {stream}",
        "messages": {title: {"payload": {"$ref": f"#/components/schemas/{title}"}}},
    }


def _title(contract: type[Contract]) -> str:
    return contract.model_config.get("title") or contract.__name__


def _schema(contract: type[Contract]) -> dict[str, Any]:
    return contract.model_json_schema(ref_template=f"#/components/schemas/{_title(contract)}/$defs/{{model}}")


def render() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
