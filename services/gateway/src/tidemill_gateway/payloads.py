"""Bodies too large for the bus, in the platform's own store."""

from __future__ import annotations

from typing import Final

from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.storage import ObjectStore

PAYLOADS: Final = "payloads"
RESULTS: Final = "results"
"""Folders of the system bucket (docs/internals.md, Payloads)."""


class StoredPayloads:
    """Payloads and results in the system bucket."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    async def put(self, event_id: str, body: bytes, content_type: str | None) -> ArtifactRef:
        """Keep the payload of one Event."""
        stored = await self._store.put(f"{self._bucket}/{PAYLOADS}/{event_id}", body, content_type=content_type)
        return ArtifactRef(path=stored.path, etag=stored.etag, size=len(body))

    async def get(self, artifact: ArtifactRef) -> bytes:
        """A payload or result."""
        return await self._store.get(artifact.path)


class MemoryPayloads:
    """The twin for tests."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    async def put(self, event_id: str, body: bytes, content_type: str | None) -> ArtifactRef:
        """Keep it."""
        path = f"tidemill/{PAYLOADS}/{event_id}"
        self.bodies[path] = body
        return ArtifactRef(path=path, size=len(body))

    async def get(self, artifact: ArtifactRef) -> bytes:
        """Give it back."""
        return self.bodies[artifact.path]
