"""Columns that several commands show."""

from __future__ import annotations

from typing import Final

from tidemill.output import Column

INVOCATION_COLUMNS: Final = (
    Column("ID", "id"),
    Column("SERVICE", "service"),
    Column("PHASE", "phase"),
    Column("ATTEMPTS", "attempts", right=True),
    Column("REASON", "reason"),
    Column("REQUESTED", "requested_at"),
    Column("FINISHED", "finished_at"),
    Column("INPUT", "input.path"),
)
EVENT_COLUMNS: Final = (
    Column("POSITION", "position", right=True),
    Column("TIME", "time"),
    Column("TYPE", "type"),
    Column("ARTIFACT", "artifact.path"),
    Column("SERVICE", "service"),
    Column("ID", "id"),
)
