"""What the gateway's own code needs from the catalogue and the payload store."""

from __future__ import annotations

from typing import Protocol

from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.service import Service


class Services(Protocol):
    """The Services as memory knows them; never waits."""

    def service_of_token(self, name: str, token: str) -> Service | None:
        """The Service of this name if the token is its own."""
        ...

    def get_cached(self, name: str) -> Service | None:
        """The Service of this name."""
        ...


class PayloadStore(Protocol):
    """Bodies that are too large for the bus."""

    async def put(self, event_id: str, body: bytes, content_type: str | None) -> ArtifactRef:
        """Keep the payload of one Event; putting it again replaces it."""
        ...

    async def get(self, artifact: ArtifactRef) -> bytes:
        """A payload or result.

        Raises:
            NotFoundError: It is not kept any more.
        """
        ...
