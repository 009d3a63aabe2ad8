"""Messages and subjects: what travels between components, one module per entity.

A version of a message only ever gains optional fields. Bodies stay under 64 KiB (`MAX_BODY_BYTES`).
Secrets never travel.
"""

from __future__ import annotations

from typing import Final

MAX_BODY_BYTES: Final = 64 * 1024
"""Larger payloads go to the object store and travel by reference (design: section 4)."""
