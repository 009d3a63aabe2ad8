"""The bus on NATS JetStream: a thin layer over a nats-py connection."""

from __future__ import annotations

from tidemill_common.bus.nats.connection import open_nats

__all__ = ["open_nats"]
