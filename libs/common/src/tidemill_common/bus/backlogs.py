"""From how many messages each subject holds to the backlog of each Service. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane

_EMPTY: Final = Backlog()
_ASKED: Final = "retry"


def backlogs(waiting: Iterable[tuple[str, int]]) -> dict[ServiceName, Backlog]:
    """Sum up (subject, number) pairs: `work.<shard>.<service>.<lane>`, `later.<shard>.<service>.<lane>.<id>`, and
    `retry.v1.asked.<service>`.
    """
    found: dict[ServiceName, Backlog] = {}
    for subject, number in waiting:
        kind, _, name, lane, *_ = subject.split(".")
        name = lane if kind == _ASKED else name
        service = ServiceName(name)
        found[service] = _add(found.get(service, _EMPTY), kind, lane, number)
    return found


def _add(backlog: Backlog, kind: str, lane: str, number: int) -> Backlog:
    if kind in {_ASKED, "later"}:
        return replace(backlog, delayed=backlog.delayed + number)
    if lane == Lane.INTERACTIVE:
        return replace(backlog, interactive=backlog.interactive + number)
    return replace(backlog, batch=backlog.batch + number)
