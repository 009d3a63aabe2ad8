"""Small values for tests of the Worker: an Event, an Invocation, a Service, a place."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill_common.contracts.contract import EventId, InvocationId, ServiceName, WorkerId
from tidemill_common.contracts.event import OBJECT_CREATED, SERVICE_CALLED, ArtifactRef, EventReceived
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.service import Service
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.reporting import Execution

NOW = datetime(2026, 3, 4, 10, 11, 12, 345000, tzinfo=UTC)
MARK = f"m{os.getpid()}"
"""A guardian kills whatever has its mark on this machine, also of tests that run beside these."""
NAME = ServiceName("blur")


def stored_event(path: str = "blur/in/cat.png", **fields: Any) -> EventReceived:
    """An object arrived."""
    artifact = ArtifactRef(path=path, etag=fields.pop("etag", None), size=fields.pop("size", None))
    values: dict[str, Any] = {
        "id": EventId("e" * 32),
        "source": "/sources/s",
        "type": OBJECT_CREATED,
        "time": NOW,
        "artifact": artifact,
    }
    return EventReceived(**{**values, **fields})


def called_event(data: bytes | None = None, **fields: Any) -> EventReceived:
    """Somebody called the Service."""
    values: dict[str, Any] = {"id": EventId("c" * 32), "source": "/gateway", "type": SERVICE_CALLED, "time": NOW}
    return EventReceived(**{**values, "service": NAME, "data": data, **fields})


def invocation(event: EventReceived | None = None, **fields: Any) -> Invocation:
    """One request."""
    event = event or called_event(b"")
    made = Invocation.of(
        event,
        service=NAME,
        owner="ann",
        revision=fields.pop("revision", 1),
        trigger="direct" if event.service else "minio.default:blur/in",
        now=NOW,
    )
    return made.model_copy(update=fields)


def service(script: str = "true", **fields: Any) -> Service:
    """A Service; `input` and `output` as in FDL."""
    return Service.model_validate({"name": NAME, "image": "none", "script": script, **fields})


def place(root: Path, *, attempt: int = 1, invocation_id: str = "i1", mark: str = MARK) -> Place:
    """Where an Attempt works."""
    return Place(root=root / f"{invocation_id}-{attempt}", attempt=attempt, worker="w1", mark=mark, node="this-machine")


def execution(of: Invocation, attempt: int = 1) -> Execution:
    """Which Attempt."""
    return Execution(invocation=of, attempt=attempt, revision=1, worker=WorkerId("w1"))


def identified(text: str) -> InvocationId:
    """An id."""
    return InvocationId(text)
