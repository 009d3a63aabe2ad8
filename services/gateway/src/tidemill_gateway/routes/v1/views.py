"""What `/v1` shows: pydantic models of the API, made from our own values."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from tidemill_common.bus import Record
from tidemill_common.contracts.event import ArtifactRef, EventReceived, Lane
from tidemill_common.contracts.invocation import LogWritten, Phase, Reason
from tidemill_gateway.catalogue import Revision
from tidemill_gateway.dead_letters import Letter, LetterPage
from tidemill_gateway.domain.account import Account
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.invocations import Page


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


class InvocationView(BaseModel):
    """One Invocation."""

    id: str
    service: str
    owner: str
    phase: Phase
    dead: bool = Field(description="Failed, and kept as a dead letter")
    reason: Reason | None
    message: str | None
    attempts: int
    exit_code: int | None
    signal: int | None
    requested_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    not_before: AwareDatetime | None = Field(description="When the next Attempt may start")
    event_id: str | None
    trigger: str | None
    lane: Lane | None
    input: ArtifactRef | None
    outputs: tuple[ArtifactRef, ...]
    worker: str | None
    revision: int
    log_tail: str | None
    has_result: bool
    redrive_of: str | None
    principal: str | None

    @classmethod
    def of(cls, row: InvocationRow) -> InvocationView:
        """The view of a row."""
        shown = {name: getattr(row, name) for name in cls.model_fields if name != "has_result"}
        has_result = row.result is not None or row.result_ref is not None
        return cls.model_validate(shown | {"has_result": has_result})


class InvocationList(BaseModel):
    """A page, newest first."""

    items: list[InvocationView]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last")

    @classmethod
    def of(cls, page: Page) -> InvocationList:
        """The view of a page."""
        return cls(items=[InvocationView.of(row) for row in page.rows], next=page.next)


class Started(BaseModel):
    """A new Invocation that repeats an old one."""

    id: str
    redrive_of: str


class LogView(BaseModel):
    """Lines of user code, as the tail tells them."""

    attempt: int
    first_line: int
    at: AwareDatetime
    lines: tuple[str, ...]
    dropped_lines: int

    @classmethod
    def of(cls, written: LogWritten) -> LogView:
        """The view of a record."""
        return cls.model_validate(written.model_dump(include=set(cls.model_fields)))


class DeadLetterView(BaseModel):
    """A dead letter."""

    invocation_id: str
    service: str
    reason: Reason
    message: str
    attempts: int
    exit_code: int | None
    at: AwareDatetime
    trigger: str
    input: ArtifactRef | None
    log_tail: str | None

    @classmethod
    def of(cls, letter: Letter) -> DeadLetterView:
        """The view of a letter."""
        body = letter.body
        return cls(
            invocation_id=body.invocation.id,
            service=body.invocation.service,
            reason=body.reason,
            message=body.message,
            attempts=body.attempts,
            exit_code=body.exit_code,
            at=body.at,
            trigger=body.invocation.trigger,
            input=body.invocation.event.artifact,
            log_tail=body.log_tail,
        )


class DeadLetterList(BaseModel):
    """A page, newest first."""

    items: list[DeadLetterView]
    next: str | None

    @classmethod
    def of(cls, page: LetterPage) -> DeadLetterList:
        """The view of a page."""
        return cls(items=[DeadLetterView.of(letter) for letter in page.letters], next=page.next)


class PayloadView(BaseModel):
    """A payload as text where it is UTF-8, else in base64."""

    encoding: Literal["utf-8", "base64"]
    body: str

    @classmethod
    def of(cls, body: bytes) -> PayloadView:
        """The view of bytes."""
        try:
            return cls(encoding="utf-8", body=body.decode())
        except UnicodeDecodeError:
            return cls(encoding="base64", body=base64.b64encode(body).decode())


class EventView(BaseModel):
    """An Event on the log."""

    position: int
    stored_at: AwareDatetime
    id: str
    source: str
    type: str
    subject: str | None
    time: AwareDatetime
    service: str | None
    artifact: ArtifactRef | None
    lane: Lane
    principal: str | None
    redrive_of: str | None
    payload: PayloadView | None = Field(description="Inline payload; larger ones are in `payload_ref`")
    payload_ref: ArtifactRef | None
    content_type: str | None

    @classmethod
    def of(cls, record: Record[EventReceived]) -> EventView:
        """The view of a record."""
        body = record.body
        fields = ("id", "source", "type", "subject", "time", "service", "artifact", "lane", "principal", "redrive_of")
        shown: dict[str, Any] = {name: getattr(body, name) for name in fields}
        payload = PayloadView.of(body.data) if body.data is not None else None
        return cls(
            position=record.position,
            stored_at=record.time,
            payload=payload,
            payload_ref=body.data_ref,
            content_type=body.data_content_type,
            **shown,
        )


class DeadLetterDetail(DeadLetterView):
    """A dead letter with its Event."""

    event: dict[str, Any]
    payload: PayloadView | None

    @classmethod
    def detailed(cls, letter: Letter) -> DeadLetterDetail:
        """The whole letter."""
        event = letter.body.invocation.event
        payload = PayloadView.of(event.data) if event.data is not None else None
        shown = event.model_dump(mode="json", exclude={"data"}, exclude_none=True)
        return cls(**DeadLetterView.of(letter).model_dump(), event=shown, payload=payload)


class EventList(BaseModel):
    """A page, oldest first. It may be short, or empty, and still have a next one."""

    items: list[EventView]
    next: int | None = Field(description="`start` of the next page; null: that was all")


class AccountView(BaseModel):
    """requested = succeeded + failed + dead + cancelled + pending + running."""

    service: str
    requested: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    pending: int
    running: int
    pruned: int = Field(description="Ended Invocations that retention removed; counted in the others as well")
    balanced: bool
    open_on_bus: int | None = Field(description="Pending, running and delayed as the work queue says")

    @classmethod
    def of(cls, account: Account, open_on_bus: int | None) -> AccountView:
        """The view of an account."""
        return cls.model_validate(
            {name: getattr(account, name) for name in cls.model_fields if name != "open_on_bus"}
            | {"open_on_bus": open_on_bus}
        )


class AccountList(BaseModel):
    """The accounts of all Services."""

    items: list[AccountView]
    balanced: bool = Field(description="All of them are")
    skipped: dict[str, int] = Field(description="Records that retention dropped before a projection saw them")


class RevisionView(BaseModel):
    """One revision of a Service."""

    number: int
    at: AwareDatetime
    who: str
    removed: bool
    changed: tuple[str, ...] = Field(description="Fields that differ from the revision before")
    definition: dict[str, Any] | None = Field(description="Null: the Service was removed")

    @classmethod
    def of(cls, revision: Revision) -> RevisionView:
        """The view of a revision."""
        definition = revision.service.model_dump(mode="json", exclude_defaults=True) if revision.service else None
        return cls(
            number=revision.number,
            at=revision.at,
            who=revision.who,
            removed=revision.removed,
            changed=revision.changed,
            definition=definition,
        )


class ClusterView(BaseModel):
    """What the scheduler last told of itself, its Pools and its Workers."""

    at: datetime | None = Field(description="Null: no scheduler told anything yet")
    scheduler: dict[str, Any] | None
