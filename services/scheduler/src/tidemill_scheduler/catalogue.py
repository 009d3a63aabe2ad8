"""Definitions of all Services, followed."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tidemill_common.bus import Log, Position, Record
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import DEFINED, Service, ServiceDefined
from tidemill_common.errors import InvalidInputError
from tidemill_scheduler.domain.snapshot import Needs, needs_of

log = structlog.get_logger()


class Catalogue:
    """The newest definition of each Service."""

    def __init__(self) -> None:
        self.services: dict[ServiceName, Needs] = {}
        self.definitions: dict[ServiceName, Service] = {}
        """What launchers start Workers from; of the same Services."""
        self.warm: dict[ServiceName, None] = {}
        """Those with a `min_scale`."""
        self.removed: set[ServiceName] = set()
        self.invalid: dict[ServiceName, str] = {}
        """Definitions that cannot be planned, with the reason."""
        self._next = Position(1)

    async def load(self, definitions: Log) -> None:
        """Read all there is; before this nothing may be decided, or Workers of unknown Services would be stopped."""
        async with definitions.read(DEFINED) as records:
            async for record in records:
                self._take(record)

    async def follow(self, definitions: Log, on_change: Callable[[], None]) -> None:
        """Go on where `load` ended, for as long as this runs."""
        async with definitions.read(DEFINED, start=self._next, follow=True) as records:
            async for record in records:
                self._take(record)
                on_change()

    def _take(self, record: Record[ServiceDefined]) -> None:
        self._next = Position(record.position + 1)
        self.define(record.body)

    def define(self, defined: ServiceDefined) -> None:
        """Replace what is known of one Service."""
        name = defined.name
        self.services.pop(name, None)
        self.definitions.pop(name, None)
        self.warm.pop(name, None)
        self.invalid.pop(name, None)
        self.removed.discard(name)
        if defined.service is None:
            self.removed.add(name)
            return
        try:
            needs = needs_of(defined.service, revision=defined.revision)
        except InvalidInputError as error:
            log.warning("service cannot be planned", service=name, error=str(error))
            self.invalid[name] = str(error)
            return
        self.services[name] = needs
        self.definitions[name] = defined.service
        if needs.min_scale:
            self.warm[name] = None
