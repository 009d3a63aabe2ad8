"""What each component may do on the bus, as nats-server permissions.

Only the operator manages Streams. A Worker runs beside user code, so it gets the least: Leases, the records of what
became of them, logs and dead letters. Its rights are not narrowed to one Service here: all Workers share one identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from tidemill_common.bus.addresses import DEFINITIONS, LIFECYCLE, work_stream
from tidemill_common.settings import BusSettings

_API: Final = "$JS.API"
_INBOX: Final = "_INBOX.>"
_MANAGEMENT: Final = tuple(f"{_API}.STREAM.{action}.*" for action in ("CREATE", "UPDATE", "DELETE", "RESTORE"))
_WORKERS_RECORDS: Final = ("started", "retried", "succeeded", "failed", "dead")


def bus_users(passwords: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """(name, password, permissions) of every identity."""
    return tuple((name, password, permissions(name)) for name, password in passwords.items())


def permissions(identity: str) -> str:
    """What an identity may do, in nats-server's syntax; empty: everything.

    https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization
    """
    match identity:
        case "operator":
            return ""
        case "worker":
            return _only(publish=_worker_subjects(), subscribe=(_INBOX,))
        case "scheduler":
            return _only(publish=_scheduler_subjects(), subscribe=(_INBOX, "live.>"))
    return f"permissions: {{ publish: {{ deny: {json.dumps(_MANAGEMENT)} }} }}"


def _only(*, publish: Iterable[str], subscribe: Iterable[str]) -> str:
    allowed = {"publish": list(publish), "subscribe": list(subscribe)}
    return (
        "permissions: { " + ", ".join(f"{do}: {{ allow: {json.dumps(what)} }}" for do, what in allowed.items()) + " }"
    )


def _worker_subjects() -> list[str]:
    queues = [work_stream(shard) for shard in range(BusSettings().shards)]
    return [
        _INBOX,
        *(f"invocation.v1.{change}.*" for change in _WORKERS_RECORDS),
        *("log.v1.>", "deadletter.v1.>", "work.>", "later.>", "live.worker.>", "live.reply.>"),
        *(subject for stream in (LIFECYCLE, DEFINITIONS) for subject in _reading(stream)),
        *(subject for stream in queues for subject in _leasing(stream)),
    ]


def _scheduler_subjects() -> list[str]:
    info = f"{_API}.STREAM.INFO.*"
    return [_INBOX, info, f"{_API}.STREAM.MSG.GET.STATE", "state.>", "live.>", *_reading(DEFINITIONS)]


def _reading(stream: str) -> list[str]:
    return [
        f"{_API}.STREAM.INFO.{stream}",
        f"{_API}.CONSUMER.CREATE.{stream}.>",
        f"{_API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"{_API}.CONSUMER.DELETE.{stream}.*",
        f"$JS.ACK.{stream}.>",
        f"$JS.ACK.*.*.{stream}.>",
    ]


def _leasing(stream: str) -> list[str]:
    return [*_reading(stream), f"{_API}.STREAM.MSG.DELETE.{stream}"]
