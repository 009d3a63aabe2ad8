"""What a Worker asks for when an Attempt failed and another shall follow: it may not store it itself (ADR 7)."""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime, ConfigDict, Field

from tidemill_common.contracts.contract import Contract, InvocationId, ServiceName, Subject, derive_id
from tidemill_common.contracts.event import Lane

_MOST: Final = 2**31


class RetryAsked(Contract):
    """The next Attempt of an Invocation was asked for. On RETRIES, keyed by Service; stored on WORK by routing."""

    model_config = ConfigDict(title="RetryAskedV1")

    service: ServiceName
    lane: Lane
    invocation_id: InvocationId
    invocation: bytes
    """Its body as it was leased, so that nothing of it is lost that who asks does not know."""
    attempt: int = Field(ge=1, le=_MOST)
    """Number of the next Attempt."""
    failures: int = Field(ge=0, le=_MOST)
    """How many Attempts before it were answered with a retry."""
    not_before: AwareDatetime | None = None
    """None: at once."""

    def message_id(self) -> str:
        """The id of what is stored: the same for each time it is asked for, and never that of another Service."""
        return derive_id("retry", self.service, self.invocation_id, str(self.attempt))


RETRY_ASKED: Final = Subject("retry.v1.asked.{key}", RetryAsked)
