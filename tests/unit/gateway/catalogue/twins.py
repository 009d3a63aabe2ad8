"""Stores in memory, and a catalogue on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tidemill_common.errors import ConflictError
from tidemill_common.storage.memory import MemoryObjectStore
from tidemill_gateway.catalogue.places import Store


class OwnedStore(MemoryObjectStore):
    """Some of its bucket names are of other accounts."""

    foreign: frozenset[str] = frozenset()

    async def create_bucket(self, name: str) -> bool:
        """Refuse what is another's."""
        if name in self.foreign:
            raise ConflictError(f"create bucket {name}: BucketAlreadyExists")
        return await super().create_bucket(name)


class MemoryStores:
    """The platform's store, and one for each other provider."""

    def __init__(self) -> None:
        self.own = OwnedStore("tidemill")
        self.others: dict[str, MemoryObjectStore] = {}
        self.fields: dict[str, Mapping[str, object]] = {}
        """What each other provider was opened with last."""

    def platform(self) -> Store:
        """The platform's own store."""
        return Store(self.own, self.own, self.own)

    @asynccontextmanager
    async def other(self, provider: str, fields: Mapping[str, object]) -> AsyncIterator[Store]:
        """A store that remembers how it was opened."""
        self.fields[provider] = fields
        store = self.others.setdefault(provider, MemoryObjectStore())
        yield Store(store, store, store)
