"""Which way each Lease of a Worker is handled, where, and how many Leases that allows.

A Service may change while its Worker lives, so the way is chosen anew for each Lease.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tidemill_common.bus import Lease
from tidemill_supervisor.batch_run import BatchRuns
from tidemill_supervisor.batching import Batches
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.leasing import leases_ahead
from tidemill_supervisor.handling import FreshScript, Handling
from tidemill_supervisor.performance import Tools
from tidemill_supervisor.residents import Manner, Residents
from tidemill_supervisor.workspaces import Workspaces


class Provision:
    """Of one Worker.

    Args:
        pattern: A place of this Worker; its root's parent is the Worker's directory.
    """

    def __init__(self, tools: Tools, pattern: Place, *, slots: int) -> None:
        self._tools = tools
        self._pattern = pattern
        self._slots = slots
        self._fresh = FreshScript(scripts=tools.scripts, enforce_memory=tools.rules.enforce_memory)
        self._workspaces = Workspaces(tools.scripts, pattern.root.parent)
        self._residents: Residents | None = None
        runs = BatchRuns(tools.scripts, pattern, self._resident, enforce_memory=tools.rules.enforce_memory)
        self._batches = Batches(runs, self._workspaces, tools.clock, slots=slots)
        self._lost: set[str] = set()
        """Invocations in hand that an earlier Worker was lost with: this one may be, too."""

    def warm(self, definition: Definition) -> None:
        """Start what is started once."""
        if definition.service.resident:
            self._resident().warm(definition)

    def choose(self, lease: Lease, definition: Definition) -> tuple[Handling, Place]:
        """How and where this one is handled. The handling's `clear` ends it."""
        if lease.lost:
            self._lost.add(lease.invocation.id)
        if (bounds := definition.service.batch) is not None:
            return self._batches.choose(lease, bounds), self._place(self._workspaces.take(), lease)
        if definition.service.resident:
            return self._resident(), self._place(self._workspaces.take(), lease)
        return self._fresh, self._place(self._named(f"{lease.invocation.id}-{lease.attempt}"), lease)

    def ended(self, lease: Lease) -> None:
        """A Lease that was chosen for is answered."""
        self._lost.discard(lease.invocation.id)

    def allowed(self, definition: Definition) -> int:
        """How many Leases may be held now, at least one a slot.

        None is leased ahead beside one that a Worker was lost with, or they would be lost together.
        """
        if definition.service.batch is not None:
            return self._batches.allowed(definition.service.batch)
        if not definition.service.resident or self._residents is None or self._lost:
            return self._slots
        return self._slots + leases_ahead(self._residents.mean_seconds, self._slots)

    def hurry(self) -> None:
        """No more Leases will come: wait for none."""
        self._batches.close_open()

    async def close(self) -> None:
        """End what was started once."""
        if self._residents is not None:
            await self._residents.close()

    def _resident(self) -> Residents:
        if self._residents is None:
            rules = self._tools.rules
            manner = Manner(
                clock=self._tools.clock,
                grace=rules.grace,
                load_timeout=rules.load_timeout,
                enforce_memory=rules.enforce_memory,
                disk_limit_bytes=rules.disk_limit_bytes,
            )
            self._residents = Residents(self._tools.scripts, self._workspaces, self._pattern, manner, slots=self._slots)
        return self._residents

    def _named(self, name: str) -> Path:
        return self._pattern.root.with_name(name)

    def _place(self, root: Path, lease: Lease) -> Place:
        return replace(self._pattern, root=root, attempt=lease.attempt)
