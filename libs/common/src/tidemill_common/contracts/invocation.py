"""Invocation: one request to run a Service, and the log of what became of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

from pydantic import AwareDatetime, ConfigDict

from tidemill_common.contracts.contract import Contract, InvocationId, ServiceName, Subject, WorkerId, derive_id
from tidemill_common.contracts.event import ArtifactRef, EventReceived, Lane

DIRECT_TRIGGER: Final = "direct"
"""The trigger of `/job` and `/run`."""


def invocation_id(event_id: str, service: str, trigger: str) -> InvocationId:
    """The id of the Invocation of `service` by this Event through this Trigger: routing twice gives the same."""
    return InvocationId(derive_id("invocation", event_id, service, trigger))


class Invocation(Contract):
    """One request to run a Service: the body on the work queue."""

    model_config = ConfigDict(title="InvocationV1")

    id: InvocationId
    service: ServiceName
    owner: str = ""
    revision: int = 0
    """Revision of the Service that routing saw; the Worker records the one it ran."""
    trigger: str = DIRECT_TRIGGER
    """Which FDL input matched, `<provider>:<path>`; `direct`: none was needed."""
    lane: Lane = Lane.BATCH
    event: EventReceived
    requested_at: AwareDatetime

    @classmethod
    def of(
        cls, event: EventReceived, *, service: ServiceName, owner: str, revision: int, trigger: str, now: AwareDatetime
    ) -> Self:
        """The Invocation that this Event makes of this Service through this Trigger."""
        return cls(
            id=invocation_id(event.id, service, trigger),
            service=service,
            owner=owner,
            revision=revision,
            trigger=trigger,
            lane=event.lane,
            event=event,
            requested_at=now,
        )


class Phase(StrEnum):
    """Where an Invocation is, in Kubernetes' manner; the last three are for ever."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Change(StrEnum):
    """What happened to an Invocation; the past participle in its subject."""

    REQUESTED = "requested"
    STARTED = "started"
    RETRIED = "retried"
    """An Attempt failed and another is planned."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """For ever, and an operator need not look: an exit code the user called final, a deadline, a waiting caller."""
    DEAD = "dead"
    """For ever, and kept as a dead letter: Attempts used up, or input that can never work."""
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({Change.SUCCEEDED, Change.FAILED, Change.DEAD, Change.CANCELLED})


class Reason(StrEnum):
    """Why an Attempt ended as it did: a closed set, used in records, metrics and exit texts."""

    COMPLETED = "completed"
    SCRIPT_FAILED = "script-failed"
    """Exit code other than 0."""
    SCRIPT_KILLED = "script-killed"
    """Ended by a signal that we did not send."""
    OUT_OF_MEMORY = "out-of-memory"
    EVICTED = "evicted"
    """The cluster took the Worker's room back while it ran."""
    CONTAINER_ENDED = "container-ended"
    """The user's container ended under the script, for another cause; the message has the cluster's words."""
    TIMEOUT = "timeout"
    DISK_LIMIT = "disk-limit"
    """The workspace grew beyond its limit, or the disk is full."""
    START_FAILED = "start-failed"
    """The script could not be started: no such interpreter, no workspace."""
    IMAGE_PULL_FAILED = "image-pull-failed"
    INPUT_MISSING = "input-missing"
    """The object is not there (any more)."""
    STAGE_IN_FAILED = "stage-in-failed"
    STAGE_OUT_FAILED = "stage-out-failed"
    INVALID_MESSAGE = "invalid-message"
    DEADLINE_PASSED = "deadline-passed"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker-lost"
    """The Worker died, or lost its Lease, more often than allowed."""
    SERVICE_REMOVED = "service-removed"


ROOM_TAKEN: Final = frozenset(
    {
        "DeadlineExceeded",
        "DeletionByPodGC",
        "DeletionByTaintManager",
        "Evicted",
        "EvictionByEvictionAPI",
        "NodeShutdown",
        "Preempting",
        "PreemptionByScheduler",
        "Suspended",
        "TerminationByKubelet",
    }
)
"""Words of a cluster for what `evicted` means."""


class InvocationChanged(Contract):
    """One record on LIFECYCLE. Published by routing, Workers and the gateway; folded by the gateway's projections."""

    model_config = ConfigDict(title="InvocationChangedV1")

    invocation_id: InvocationId
    service: ServiceName
    change: Change
    at: AwareDatetime
    attempt: int = 0
    """Counted from 1; 0: before any Attempt."""
    owner: str = ""
    revision: int = 0
    """Of the Service: as routed on `requested`, as run on the others."""
    worker: WorkerId | None = None
    reason: Reason | None = None
    message: str | None = None
    """For people: what failed, on what."""
    exit_code: int | None = None
    signal: int | None = None
    event_id: str | None = None
    trigger: str | None = None
    lane: Lane | None = None
    input: ArtifactRef | None = None
    outputs: tuple[ArtifactRef, ...] = ()
    not_before: AwareDatetime | None = None
    """On `retried`: when the next Attempt may start."""
    log_tail: str | None = None
    """Last lines of the user's output, at most 4 KiB; on terminal records and `retried`."""
    result: bytes | None = None
    """On `succeeded` and `failed`: the answer of a direct call (OSCAR contract 6.5), at most 32 KiB.
    Larger ones are in `result_ref`."""
    result_ref: ArtifactRef | None = None
    redrive_of: InvocationId | None = None
    principal: str | None = None

    def message_id(self) -> str:
        """Deduplicates this record: publishing it again stores one."""
        return f"{self.invocation_id}.{self.change}.{self.attempt}"


def changed_subject(change: Change) -> Subject[InvocationChanged]:
    """The subject of one kind of change; its key is the Service."""
    return _CHANGED[change]


_CHANGED: Final = {change: Subject(f"invocation.v1.{change}.{{key}}", InvocationChanged) for change in Change}
CHANGED: Final = Subject("invocation.v1.*.{key}", InvocationChanged)
"""For reading all kinds of change of one Service."""


class LogWritten(Contract):
    """Lines that user code wrote, in order. On LOGS, keyed `{service}.{invocation}`."""

    model_config = ConfigDict(title="LogWrittenV1")

    invocation_id: InvocationId
    service: ServiceName
    attempt: int
    first_line: int
    """Number of the first line in `lines`, from 0, within the Attempt."""
    at: AwareDatetime
    lines: tuple[str, ...]
    dropped_lines: int = 0
    """Lines left out before these because the script wrote more than may be kept."""


class DeadLetter(Contract):
    """An Invocation set aside with its reason, never delivered again by itself. On DEAD, keyed by Service."""

    model_config = ConfigDict(title="DeadLetterV1")

    invocation: Invocation
    reason: Reason
    message: str
    attempts: int
    exit_code: int | None = None
    log_tail: str | None = None
    at: AwareDatetime


def log_subject(service: str, invocation: str) -> str:
    """Where the output of one Invocation is written."""
    return f"log.v1.written.{service}.{invocation}"


LOG_WRITTEN: Final = Subject("log.v1.written.{key}.*", LogWritten)
SET_ASIDE: Final = Subject("deadletter.v1.aside.{key}", DeadLetter)
