"""Where the catalogue is kept: Services that are, what they were, the buckets, and what an operator set.

Values of secrets are in none of these; the token of a Service is, because every call is checked against it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Index, Integer, String, Table, Text

from tidemill_gateway.sql.metadata import UtcDateTime, metadata

services: Final = Table(
    "services",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("namespace", String(255), nullable=False),
    Column("token", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_services_owner", "owner"),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("service", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("who", String(255), nullable=False),
    Column("changed", JSON, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("definition", JSON(none_as_null=True), nullable=True),
)
"""Outlives its Service, so that a name's numbers never start again."""

buckets: Final = Table(
    "buckets",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("visibility", String(32), nullable=False),
    Column("allowed_users", JSON, nullable=False),
    Column("from_service", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

settings: Final = Table(
    "catalogue_settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
