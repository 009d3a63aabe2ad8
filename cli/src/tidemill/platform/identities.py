"""What each component may do on the bus, as nats-server permissions."""

from __future__ import annotations

from collections.abc import Mapping


def bus_users(passwords: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """(name, password, permissions) of every identity."""
    return tuple((name, password, "") for name, password in passwords.items())
