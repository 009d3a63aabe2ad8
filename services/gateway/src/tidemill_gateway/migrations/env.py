"""Alembic's entry point; the connection comes from `tidemill_gateway.migrations.upgrade`."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
