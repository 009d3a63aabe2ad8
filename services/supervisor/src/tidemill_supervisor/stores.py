"""The stores that a Service can reach: opened when first used, kept while their fields stay equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from tidemill_common.errors import NotFoundError
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_store
from tidemill_supervisor.patience import PAUSES

Fields = Mapping[str, object]


class OpenStores:
    """All stores that this Worker has opened."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._stores: dict[str, ObjectStore] = {}
        self._opening = asyncio.Lock()

    async def open(self, provider: str, fields: Fields) -> ObjectStore:
        """The store with these fields, opened once.

        Raises:
            UnsupportedError: No adapter can talk to this kind.
            InvalidInputError: Its credentials are incomplete.
        """
        key = json.dumps([provider, fields], sort_keys=True, default=str)
        if key not in self._stores:
            async with self._opening:
                if key not in self._stores:
                    self._stores[key] = await self._stack.enter_async_context(open_store(provider, fields))
        return self._stores[key]


@asynccontextmanager
async def open_stores() -> AsyncIterator[OpenStores]:
    """None are open yet; those that were opened are closed at the end."""
    async with AsyncExitStack() as stack:
        yield OpenStores(stack)


class ServiceStores:
    """The stores of one revision of a Service, its own credentials before the platform's; the port `Stores`."""

    def __init__(self, opened: OpenStores, *, own: Mapping[str, Fields], platform: Mapping[str, Fields]) -> None:
        self._opened = opened
        self._own = own
        self._platform = platform

    @property
    def pauses(self) -> Sequence[timedelta]:
        """See the port."""
        return PAUSES

    def is_shared(self, provider: str) -> bool:
        """See the port."""
        return provider not in self._own

    async def open(self, provider: str) -> ObjectStore:
        """See the port."""
        fields = self._own.get(provider) or self._platform.get(provider)
        if fields is None:
            raise NotFoundError(f"open {provider}: this Service has no credentials for it")
        return await self._opened.open(provider, fields)
