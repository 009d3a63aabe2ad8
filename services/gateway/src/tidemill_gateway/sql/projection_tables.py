"""Tables that the gateway folds from LIFECYCLE and DEAD. Rebuilt from the log as far as the log is kept."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from tidemill_gateway.sql.metadata import UtcDateTime, metadata

invocations: Final = sa.Table(
    "invocations",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("dead", sa.Boolean, nullable=False),
    sa.Column("requested", sa.Boolean, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("progress", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(32)),
    sa.Column("message", sa.Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("worker", sa.Text),
    sa.Column("event_id", sa.Text),
    sa.Column("trigger", sa.Text),
    sa.Column("lane", sa.String(16)),
    sa.Column("input", sa.Text),
    sa.Column("outputs", sa.Text),
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("not_before", UtcDateTime),
    sa.Column("log_tail", sa.Text),
    sa.Column("result", sa.LargeBinary),
    sa.Column("result_ref", sa.Text),
    sa.Column("redrive_of", sa.String(64)),
    sa.Column("principal", sa.Text),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Index("ix_invocations_newest", "requested_at", "id"),
    sa.Index("ix_invocations_service_newest", "service", "requested_at", "id"),
    sa.Index("ix_invocations_service_phase", "service", "phase"),
    sa.Index("ix_invocations_finished", "finished_at"),
    sa.Index("ix_invocations_redrive_of", "redrive_of"),
)

dead_letters: Final = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("log_tail", sa.Text),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("invocation", sa.Text, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Index("ix_dead_letters_newest", "at", "id"),
    sa.Index("ix_dead_letters_service_newest", "service", "at", "id"),
)

accounts: Final = sa.Table(
    "accounts",
    metadata,
    sa.Column("service", sa.String(255), primary_key=True),
    sa.Column("requested", sa.BigInteger, nullable=False),
    sa.Column("succeeded", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("dead", sa.BigInteger, nullable=False),
    sa.Column("cancelled", sa.BigInteger, nullable=False),
    sa.Column("pruned", sa.BigInteger, nullable=False),
)

projection_positions: Final = sa.Table(
    "projection_positions",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("skipped", sa.BigInteger, nullable=False),
)
