"""Where messages go: the subject of each record, and which Stream keeps it. Pure; equal on every adapter."""

from __future__ import annotations

from typing import Any, Final

from tidemill_common.contracts.contract import ServiceName, Subject, WorkerId, derive_id, subject_token
from tidemill_common.contracts.event import Lane
from tidemill_common.errors import InvalidInputError

EVENTS: Final = "EVENTS"
LIFECYCLE: Final = "LIFECYCLE"
DEFINITIONS: Final = "DEFINITIONS"
LOGS: Final = "LOGS"
DEAD: Final = "DEAD"
STATE: Final = "STATE"
RETRIES: Final = "RETRIES"

_STREAM_OF: Final = {
    "event": EVENTS,
    "invocation": LIFECYCLE,
    "service": DEFINITIONS,
    "log": LOGS,
    "deadletter": DEAD,
    "retry": RETRIES,
}


def stream_of(subject: Subject[Any]) -> str:
    """The Stream that keeps this subject's records.

    Raises:
        InvalidInputError: None does.
    """
    entity = subject.pattern.partition(".")[0]
    try:
        return _STREAM_OF[entity]
    except KeyError:
        raise InvalidInputError(f"no Stream keeps {subject.pattern}") from None


def address(subject: Subject[Any], key: str) -> str:
    """The subject of one record. Where the pattern has a second token, `key` is `first.second`.

    Raises:
        InvalidInputError: The pattern is one for reading only, or the key lacks its second token.
    """
    filled = _filled(subject, key)
    if "*" in filled:
        raise InvalidInputError(f"{key!r} does not fill {subject.pattern}")
    return filled


def read_filter(subject: Subject[Any], key: str | None) -> str:
    """What matches the subject's records; with a key only that key's."""
    return subject.wildcard if key is None else _filled(subject, key)


def _filled(subject: Subject[Any], key: str) -> str:
    if not subject.pattern.endswith(".{key}.*"):
        return subject.at(key)
    first, _, second = key.partition(".")
    filled = subject.at(first)
    return f"{filled[:-1]}{subject_token(second)}" if second else filled


def shard_of(service: str, shards: int) -> int:
    """Which work-queue Stream a Service's Invocations are on: for ever the same, while `shards` is."""
    return int(derive_id("shard", service)[:8], 16) % shards


def work_stream(shard: int) -> str:
    """Name of one work-queue Stream."""
    return f"WORK_{shard}"


def work_subject(shard: int, service: str, lane: Lane) -> str:
    """Where Invocations of one lane wait."""
    return f"work.{shard}.{service}.{lane}"


def later_subject(shard: int, service: str, lane: Lane, invocation: str) -> str:
    """Where one Invocation waits for its time. No Consumer may match it: an ack would delete the plan."""
    return f"later.{shard}.{service}.{lane}.{subject_token(invocation)}"


def busy_subject(service: ServiceName, worker: WorkerId) -> str:
    """Where one Worker tells how busy it is."""
    return _of_worker("worker", service, worker)


def cause_subject(service: ServiceName, worker: WorkerId) -> str:
    """Where one Worker is told why its user's container ended, or its room is taken away."""
    return _of_worker("cause", service, worker)


def drain_subject(service: ServiceName, worker: WorkerId) -> str:
    """Where one Worker is asked to finish what it has and to end."""
    return _of_worker("drain", service, worker)


def _of_worker(what: str, service: ServiceName, worker: WorkerId) -> str:
    return f"live.{what}.{subject_token(service)}.{subject_token(worker)}"


def service_token(service: ServiceName) -> str:
    """The Service's name as a subject token: the name itself.

    Raises:
        InvalidInputError: It cannot be one (the gateway refuses such names).
    """
    if subject_token(service) != service:
        raise InvalidInputError(f"not a Service's name: {service!r}")
    return service
