"""How far a Source may say it has come while many Events are on their way: the contiguous prefix of what is done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ticket:
    """One notification that was read; done when all its Events are acknowledged."""

    cursor: int
    done: bool = False


@dataclass(slots=True)
class Progress:
    """Tickets in the order they were read. `cursor` never passes one that is not done."""

    cursor: int
    _open: deque[Ticket] = field(default_factory=deque)

    def begin(self, cursor: int) -> Ticket:
        """Note a notification at this place of the stream."""
        ticket = Ticket(cursor)
        self._open.append(ticket)
        return ticket

    def finish(self, ticket: Ticket) -> None:
        """All before and including `ticket` may be handled now; the cursor moves as far as that holds."""
        ticket.done = True
        while self._open and self._open[0].done:
            self.cursor = max(self.cursor, self._open.popleft().cursor)

    @property
    def waiting(self) -> int:
        """Notifications that are read and not passed by the cursor."""
        return len(self._open)
