"""The Streams as one table, and what differs between the table and a server. Pure: adapters carry plans out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tidemill_common.bus import Bus, StreamAction, StreamChange
from tidemill_common.bus.addresses import DEAD, DEFINITIONS, EVENTS, LIFECYCLE, LOGS, RETRIES, STATE, work_stream
from tidemill_common.errors import UnsupportedError
from tidemill_common.settings import BusSettings

_SHORT_WINDOW: Final = timedelta(minutes=2)
_NANOSECONDS: Final = 1000
"""A microsecond has as many."""
_FIXED: Final = frozenset({"retention", "storage"})
"""Fields that a server never changes in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """One Stream as it should be. What is not named here is the server's own business."""

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    """True: a record is removed when it is acknowledged; else it is kept within the limits."""
    refuse_when_full: bool = False
    """True: back-pressure; else the oldest records make room."""
    max_age: timedelta = timedelta()
    """0: for ever."""
    max_bytes: int = -1
    max_per_subject: int = -1
    duplicate_window: timedelta = _SHORT_WINDOW
    replicas: int = 1
    schedules: bool = False

    def config(self) -> dict[str, object]:
        """The fields we set, in JetStream's words."""
        window = min(self.duplicate_window, self.max_age) if self.max_age else self.duplicate_window
        # a server turns rollup on wherever there are schedules; elsewhere it would let a writer empty the Stream
        rollup = {} if self.schedules else {"allow_rollup_hdrs": False}
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": "workqueue" if self.work_queue else "limits",
            "storage": "file",
            "discard": "new" if self.refuse_when_full else "old",
            "max_age": _nanoseconds(self.max_age),
            "max_bytes": self.max_bytes,
            "max_msgs": -1,
            "max_msgs_per_subject": self.max_per_subject,
            "duplicate_window": _nanoseconds(window),
            "num_replicas": self.replicas,
            "allow_msg_schedules": self.schedules,
            **rollup,
        }


def _nanoseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1) * _NANOSECONDS


def stream_table(settings: BusSettings) -> tuple[StreamSpec, ...]:
    """Every Stream that tidemill uses."""
    replicas, window = settings.replicas, settings.duplicate_window
    return (
        StreamSpec(
            name=EVENTS,
            subjects=("event.>",),
            refuse_when_full=True,
            max_age=settings.events_max_age,
            max_bytes=settings.events_max_bytes,
            duplicate_window=window,
            replicas=replicas,
        ),
        *(_work_queue(settings, shard) for shard in range(settings.shards)),
        StreamSpec(name=RETRIES, subjects=("retry.>",), work_queue=True, duplicate_window=window, replicas=replicas),
        StreamSpec(
            name=LIFECYCLE,
            subjects=("invocation.>",),
            max_age=settings.lifecycle_max_age,
            max_bytes=settings.lifecycle_max_bytes,
            duplicate_window=window,
            replicas=replicas,
        ),
        StreamSpec(
            name=LOGS,
            subjects=("log.>",),
            max_age=settings.logs_max_age,
            max_bytes=settings.logs_max_bytes,
            replicas=replicas,
        ),
        StreamSpec(
            name=DEAD,
            subjects=("deadletter.>",),
            max_age=settings.dead_max_age,
            max_bytes=settings.dead_max_bytes,
            duplicate_window=window,
            replicas=replicas,
        ),
        StreamSpec(name=DEFINITIONS, subjects=("service.>",), max_per_subject=1, replicas=replicas),
        StreamSpec(name=STATE, subjects=("state.>",), max_per_subject=1, replicas=replicas),
    )


def _work_queue(settings: BusSettings, shard: int) -> StreamSpec:
    """Without limits of its own: `submit` refuses when it is full, for a server can't where there are schedules."""
    return StreamSpec(
        name=work_stream(shard),
        subjects=(f"work.{shard}.>", f"later.{shard}.>"),
        work_queue=True,
        duplicate_window=settings.duplicate_window,
        replicas=settings.replicas,
        schedules=True,
    )


def stream_plan(
    table: Sequence[StreamSpec], server: Mapping[str, Mapping[str, object] | None]
) -> tuple[StreamChange, ...]:
    """What differs. `server` has each Stream's configuration as the server tells it; None: there is none."""
    changes = (_change(spec, server.get(spec.name)) for spec in table)
    return tuple(change for change in changes if change is not None)


def _change(spec: StreamSpec, current: Mapping[str, object] | None) -> StreamChange | None:
    wanted = spec.config()
    if current is None:
        return StreamChange(stream=spec.name, action=StreamAction.CREATE)
    differing = {
        name: (current.get(name), value) for name, value in wanted.items() if not _equal(name, current.get(name), value)
    }
    if not differing:
        return None
    recreate = bool(_FIXED & differing.keys()) or differing.get("allow_msg_schedules", (False, True)) == (True, False)
    action = StreamAction.RECREATE if recreate else StreamAction.UPDATE
    return StreamChange(stream=spec.name, action=action, fields=differing)


def _equal(name: str, current: object, wanted: object) -> bool:
    if current is None:  # the server leaves out fields that have their zero value
        return not wanted
    if name == "subjects" and isinstance(current, list) and isinstance(wanted, list):
        return sorted(current) == sorted(wanted)
    return current == wanted


def describe(change: StreamChange) -> str:
    """One line for people: what would be done to which Stream, and why."""
    reasons = ", ".join(f"{name} is {old!r}, should be {new!r}" for name, (old, new) in sorted(change.fields.items()))
    return f"{change.action} {change.stream}" + (f": {reasons}" if reasons else "")


async def ensure_streams(bus: Bus) -> None:
    """Create the Streams that are missing. Never changes one that is there.

    Raises:
        UnsupportedError: One that is there differs from the table; says how. An operator applies such a plan.
    """
    plan = await bus.streams.plan()
    pending = [change for change in plan if change.action is not StreamAction.CREATE]
    if pending:
        lines = "; ".join(describe(change) for change in pending)
        raise UnsupportedError(f"Streams on the bus differ from this version's table, apply the plan first: {lines}")
    if plan:
        await bus.streams.apply(plan)
