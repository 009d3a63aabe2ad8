"""Who may do what on the bus: the allow-list of each identity. Pure; the same on a server of any installation.

Only the operator manages Streams. A Worker runs beside user code, so it gets the least: the Consumers of its own
Service, the records of what became of its Invocations, their logs and dead letters, and an inbox that no other identity
listens on. A Worker's list is a template: the server fills in the Service and its shard from the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidemill_common.bus.addresses import DEAD, DEFINITIONS, EVENTS, LIFECYCLE, LOGS, STATE
from tidemill_common.contracts.event import Lane

OPERATOR: Final = "operator"
SCHEDULER: Final = "scheduler"
COMPONENTS: Final = (OPERATOR, "gateway", "bridge", SCHEDULER)
"""Identities that live as long as the installation; `operator` is the `tidemill` command."""
WORKER: Final = "worker"

INBOX: Final = "_INBOX"
"""First token of the subjects that answers come on; an identity made here listens below `_INBOX.<its name>` alone."""

SERVICE_TAG: Final = "service"
SHARD_TAG: Final = "shard"
INBOX_TAG: Final = "inbox"
"""What an identity's JWT says of it: the Service and shard of a Worker, and where its answers come."""
_SERVICE: Final = "{{tag(service)}}"
_SHARD: Final = "{{tag(shard)}}"

_API: Final = "$JS.API"
_MANAGEMENT: Final = tuple(f"{_API}.STREAM.{action}.*" for action in ("CREATE", "UPDATE", "DELETE", "RESTORE"))
_LOGS: Final = (EVENTS, LIFECYCLE, LOGS, DEAD, DEFINITIONS, STATE)
"""Streams that nobody empties."""
_WORKERS_RECORDS: Final = ("started", "retried", "succeeded", "failed", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Subjects; an empty `allow` allows all that is not denied."""

    publish: tuple[str, ...] = ()
    publish_denied: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


def inbox_prefix(identity: str) -> str:
    """Where an identity's answers come."""
    return f"{INBOX}.{identity}"


def worker_identity(service: str) -> str:
    """Name of the identity that all Workers of a Service share."""
    return f"{WORKER}.{service}"


def permissions(identity: str) -> Permissions:
    """What a component may do."""
    match identity:
        case "operator":
            return Permissions()
        case "scheduler":
            inbox = f"{inbox_prefix(identity)}.>"
            kept = tuple(f"{_API}.STREAM.PURGE.{stream}" for stream in _LOGS)
            publish = (inbox, *_scheduler_subjects())
            return Permissions(publish=publish, publish_denied=kept, subscribe=(inbox, "live.>"))
    return Permissions(publish_denied=_MANAGEMENT)


def _scheduler_subjects() -> tuple[str, ...]:
    info = f"{_API}.STREAM.INFO.*"
    lost = "invocation.v1.retried.*"  # told of Invocations whose Worker cannot tell any more
    purge = f"{_API}.STREAM.PURGE.*"  # drops the backlog of a Service that was removed; see what is denied
    return (info, purge, f"{_API}.STREAM.MSG.GET.STATE", "state.>", "live.>", lost, *_reading(DEFINITIONS, ">"))


def worker_permissions() -> Permissions:
    """What a Worker may do: a template over `service` and `shard`.

    https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt/advanced#templates
    """
    inbox = f"{inbox_prefix(worker_identity(_SERVICE))}.>"
    publish = (
        inbox,
        *(f"invocation.v1.{change}.{_SERVICE}" for change in _WORKERS_RECORDS),
        f"log.v1.written.{_SERVICE}.>",
        f"deadletter.v1.aside.{_SERVICE}",
        f"retry.v1.asked.{_SERVICE}",
        f"live.worker.{_SERVICE}.>",
        "live.reply.*.*",
        *_reading(LIFECYCLE, f"invocation.v1.cancelled.{_SERVICE}"),
        *_reading(DEFINITIONS, f"service.v1.defined.{_SERVICE}"),
        *(subject for lane in Lane for subject in _leasing(lane)),
    )
    listens = (f"live.cause.{_SERVICE}.>", f"live.drain.{_SERVICE}.>")
    return Permissions(publish=publish, subscribe=(inbox, *listens))


def _reading(stream: str, wanted: str) -> tuple[str, ...]:
    """For readers' short-lived Consumers. Their names are random, and nobody can use one that he cannot guess."""
    return (
        f"{_API}.STREAM.INFO.{stream}",
        f"{_API}.CONSUMER.CREATE.{stream}.*.{wanted}",
        f"{_API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"{_API}.CONSUMER.DELETE.{stream}.*",
    )


def _leasing(lane: Lane) -> tuple[str, ...]:
    stream, consumer = f"WORK_{_SHARD}", f"{_SERVICE}-{lane}"
    return (
        f"{_API}.CONSUMER.CREATE.{stream}.{consumer}.work.{_SHARD}.{_SERVICE}.{lane}",
        f"{_API}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
        f"$JS.ACK.*.*.{stream}.{consumer}.>",
    )
