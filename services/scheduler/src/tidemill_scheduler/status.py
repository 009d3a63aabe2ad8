"""The scheduler's view, for the gateway: the register `scheduler.status`, JSON.

    {"at": "2026-01-31T12:00:00+00:00", "holder": "host-1-ab12",
     "pools": [{"name", "cpu_millicores", "memory_bytes", "cpu_used", "memory_used", "workers"}],
     "services": {name: {"running", "starting", "draining", "desired", "target",
                         "blocked"?, "degraded"?, "next_try"?, "waiting"?}},
     "left_out": n,
     "images"?: [{"image", "state", "done_bytes", "total_bytes", "message"}]}

`waiting`: what keeps its Workers from running, as long as that may pass by itself, in the platform's words.
`images`: those of Services, where the launcher brings them itself; `state` is `present`, `pulling` or `failed`.
`services` has those with Workers, with work, or degraded: at most `MAX_SERVICES`, degraded ones first; `left_out`
counts the rest. Renewed when something changed, at most every second, and every ten seconds in any case: an older one
says that no scheduler runs.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from tidemill_common.bus import Registers
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import TransientError
from tidemill_scheduler.domain.failures import Failure
from tidemill_scheduler.domain.muster import Muster, Room
from tidemill_scheduler.domain.snapshot import Outlook, Pool, Worker, WorkerState

log = structlog.get_logger()
REGISTER: Final = "scheduler.status"
MAX_SERVICES: Final = 2000
"""About 200 KB; a bus message may have 1 MB."""
_STATES: Final = (WorkerState.RUNNING, WorkerState.STARTING, WorkerState.DRAINING)
_NONE: Final[Mapping[ServiceName, str]] = {}
_MIN_GAP: Final = 1.0
_MAX_GAP: Final = 10.0
"""Seconds."""


class StatusBoard:
    """Publishes the view when it is due."""

    def __init__(
        self,
        registers: Registers,
        *,
        holder: str,
        pool: Pool,
        clock: Callable[[], float] = time.monotonic,
        images: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._images = images
        self._registers = registers
        self._holder = holder
        self._pool = pool
        self._clock = clock
        self._shown: dict[str, Any] | None = None
        self._shown_at = float("-inf")

    def is_due(self) -> bool:
        """Whether `show` would look at what it is given."""
        return self._age() >= _MIN_GAP

    async def show(
        self,
        outlook: Mapping[ServiceName, Outlook],
        workers: Sequence[Worker],
        failures: Mapping[ServiceName, Failure],
        invalid: Mapping[ServiceName, str],
        *,
        troubles: Mapping[ServiceName, str] = _NONE,
        pool: Pool | None = None,
    ) -> None:
        """Publish if it is due. A bus that does not answer is tried again with the next round."""
        if not self.is_due():
            return
        view = view_of(pool or self._pool, outlook, workers, failures, invalid, troubles)
        if self._images is not None:
            view["images"] = list(self._images())
        if view == self._shown and self._age() < _MAX_GAP:
            return
        body = {"at": datetime.now(UTC).isoformat(), "holder": self._holder, **view}
        try:
            await self._registers.put(REGISTER, json.dumps(body).encode())
        except TransientError as error:
            log.warning("status not published", error=str(error))
            return
        self._shown, self._shown_at = view, self._clock()

    def _age(self) -> float:
        return self._clock() - self._shown_at


def view_of(
    pool: Pool,
    outlook: Mapping[ServiceName, Outlook],
    workers: Sequence[Worker],
    failures: Mapping[ServiceName, Failure],
    invalid: Mapping[ServiceName, str],
    troubles: Mapping[ServiceName, str] = _NONE,
) -> dict[str, Any]:
    """The view without its time, so that equal views are equal."""
    muster = Muster(workers)

    def health(name: ServiceName) -> tuple[int, str]:
        return (0 if _trouble(name, failures, invalid) else 1), name

    names = sorted({*outlook, *muster.by_service, *failures, *invalid, *troubles}, key=health)
    services = {
        name: _service(outlook.get(name), muster.by_service.get(name, ()))
        | _trouble(name, failures, invalid)
        | _waiting(name, troubles)
        for name in names[:MAX_SERVICES]
    }
    usage = _usage(pool, [room for (_, name, _), room in muster.rooms.items() if name == pool.name])
    return {"pools": [usage], "services": services, "left_out": max(0, len(names) - MAX_SERVICES)}


def _service(outlook: Outlook | None, workers: Sequence[Worker]) -> dict[str, Any]:
    counts = Counter(worker.state for worker in workers)
    view: dict[str, Any] = {state.value: counts[state] for state in _STATES}
    view["desired"] = outlook.desired if outlook is not None else 0
    view["target"] = outlook.target if outlook is not None else 0
    if outlook is not None and outlook.blocked is not None:
        view["blocked"] = outlook.blocked.value
    return view


def _trouble(
    name: ServiceName, failures: Mapping[ServiceName, Failure], invalid: Mapping[ServiceName, str]
) -> dict[str, Any]:
    if (reason := invalid.get(name)) is not None:
        return {"degraded": reason}
    failure = failures.get(name)
    if failure is None or not failure.is_degraded:
        return {}
    return {"degraded": failure.reason, "next_try": failure.next_try.isoformat()}


def _waiting(name: ServiceName, troubles: Mapping[ServiceName, str]) -> dict[str, Any]:
    reason = troubles.get(name)
    return {} if reason is None else {"waiting": reason}


def _usage(pool: Pool, rooms: Sequence[Room]) -> dict[str, Any]:
    workers = sum(room.workers for room in rooms)
    return {
        "name": pool.name,
        "cpu_millicores": pool.cpu_millicores,
        "memory_bytes": pool.memory_bytes,
        "cpu_used": sum(room.cpu for room in rooms) + workers * pool.beside_cpu_millicores,
        "memory_used": sum(room.memory for room in rooms) + workers * pool.beside_memory_bytes,
        "workers": workers,
    }
