"""Secret records in this process, the twin for tests."""

from __future__ import annotations

from tidemill_common.secrets.records import SecretRecord


class MemorySecretStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self.records: dict[str, SecretRecord] = {}

    async def get(self, name: str) -> SecretRecord | None:
        """The record, or None."""
        return self.records.get(name)

    async def put(self, name: str, record: SecretRecord) -> None:
        """Keep it."""
        self.records[name] = record

    async def remove(self, name: str) -> None:
        """Forget it."""
        self.records.pop(name, None)
