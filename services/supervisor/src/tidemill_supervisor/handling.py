"""How user code gets to work on an Invocation: a fresh script for each, a resident one, or one for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tidemill_common.contracts.service import Service
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place, user_environment
from tidemill_supervisor.domain.events import Recognised
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.protocol import Assignment
from tidemill_supervisor.execution import Limits, execute
from tidemill_supervisor.ports import Command, Scripts, Sink
from tidemill_supervisor.processes import interpreter_of
from tidemill_supervisor.staging import Left, everything
from tidemill_supervisor.workspace import furnish


class Handling(Protocol):
    """Brings user code and one Invocation together."""

    def furnish(self, place: Place, service: Service, event: Recognised) -> None:
        """Make the Invocation's directories, and what user code needs there beside its input.

        Raises:
            OSError: The disk is full, or not ours.
        """
        ...

    def needs_input(self, event: Recognised) -> bool:
        """Whether user code shall find an input file also when the Event is about no stored object."""
        ...

    async def run(self, assignment: Assignment, definition: Definition, limits: Limits, sink: Sink) -> Outcome:
        """Let user code work on it, its output going to `sink`. Cancelled: it works on it no more when this returns."""
        ...

    def left(self, place: Place) -> Left:
        """What user code left behind, when `run` has returned."""
        ...

    async def clear(self, place: Place) -> None:
        """Remove what `furnish` made and user code left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshScript:
    """A process of its own for each Invocation."""

    scripts: Scripts
    enforce_memory: bool = False

    def furnish(self, place: Place, service: Service, event: Recognised) -> None:
        """See the port."""
        furnish(place, script=service.script, event=event.raw)

    def needs_input(self, event: Recognised) -> bool:
        """Always: OSCAR's scripts find at least an empty file."""
        return True

    async def run(self, assignment: Assignment, definition: Definition, limits: Limits, sink: Sink) -> Outcome:
        """See the port."""
        service, place = definition.service, assignment.place
        environment = user_environment(
            assignment.invocation,
            service,
            secrets=definition.secrets,
            event=assignment.event,
            input_file=assignment.input_file,
            place=place,
        )
        command = Command(
            arguments=interpreter_of(service.script, place.script),
            environment=environment,
            directory=place.root,
            file_limit_bytes=limits.disk_bytes,
            memory_limit_bytes=definition.memory_bytes if self.enforce_memory else None,
        )
        return await execute(self.scripts, command, place, limits, sink)

    def left(self, place: Place) -> Left:
        """See the port."""
        return everything(place)

    async def clear(self, place: Place) -> None:
        """See the port."""
        await self.scripts.wipe(place.root)
