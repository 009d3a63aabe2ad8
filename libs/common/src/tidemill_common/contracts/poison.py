"""What is set aside when a body on the work queue breaks its contract, so that no Invocation can be built from it."""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime, ConfigDict

from tidemill_common.contracts.contract import Contract, ServiceName, Subject
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import Reason


class Poison(Contract):
    """A body that no Worker can read. On DEAD, keyed by Service; published by the work queue itself."""

    model_config = ConfigDict(title="PoisonV1")

    service: ServiceName
    lane: Lane
    body: bytes
    """As it was found."""
    reason: Reason = Reason.INVALID_MESSAGE
    message: str
    """Which contract it breaks, and where."""
    at: AwareDatetime


POISONED: Final = Subject("deadletter.v1.poison.{key}", Poison)
