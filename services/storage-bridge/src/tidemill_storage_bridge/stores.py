"""Stores by name, with the credentials that the secret store has for a Service or for the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tidemill_common.contracts.event import ArtifactRef, EventReceived
from tidemill_common.contracts.service import DEFAULT_PROVIDER, ServiceDefined
from tidemill_common.errors import NotFoundError
from tidemill_common.secrets import PLATFORM, SecretStore
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_store
from tidemill_storage_bridge.ports import Stores


class SecretStores:
    """Opens stores with credentials from the secret store: a Service's own first, else the platform's."""

    def __init__(self, secrets: SecretStore) -> None:
        self._secrets = secrets

    @asynccontextmanager
    async def open(self, provider: str, definition: ServiceDefined | None = None) -> AsyncIterator[ObjectStore]:
        """The store of this name; see `Stores.open`."""
        async with open_store(provider, await self._fields(provider, definition)) as store:
            yield store

    async def _fields(self, provider: str, definition: ServiceDefined | None) -> Mapping[str, object]:
        for name in (definition.name, PLATFORM) if definition is not None else (PLATFORM,):
            record = await self._secrets.get(name)
            if record is not None and provider in record.providers:
                return record.providers[provider]
        raise NotFoundError(f"open store {provider}: no credentials for it")


class StoredPayloads:
    """Payloads too large for the bus, in the platform's own store as `<system bucket>/payloads/<event id>`."""

    def __init__(self, stores: Stores, *, system_bucket: str) -> None:
        self._stores = stores
        self._bucket = system_bucket

    async def put(self, event: EventReceived, data: bytes) -> ArtifactRef:
        """Store it; storing it twice is the same as once."""
        path = f"{self._bucket}/payloads/{event.id}"
        async with self._stores.open(DEFAULT_PROVIDER) as store:
            info = await store.put(path, data, content_type=event.data_content_type)
        return ArtifactRef(provider=DEFAULT_PROVIDER, path=path, etag=info.etag, size=len(data))
