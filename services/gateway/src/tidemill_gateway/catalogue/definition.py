"""What the catalogue says of a Service: its definition, its token, and which revision it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Service, ServiceDefined


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One Service as it is now."""

    service: Service
    token: str
    revision: int
    created_at: datetime
    updated_at: datetime

    def published(self) -> ServiceDefined:
        """What the other components are told."""
        return ServiceDefined(name=self.service.name, revision=self.revision, at=self.updated_at, service=self.service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One step in the life of a Service's name."""

    name: ServiceName
    number: int
    """Counted from 1 over the life of the name, removals included."""
    at: datetime
    who: str
    changed: tuple[str, ...]
    """Names of the fields that differ from the revision before."""
    removed: bool = False
    service: Service | None = None
    """The definition from then on; None: the Service was removed."""

    def published(self) -> ServiceDefined:
        """What the other components are told."""
        return ServiceDefined(name=self.name, revision=self.number, at=self.at, service=self.service)
