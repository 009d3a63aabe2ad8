"""Opens the catalogue on an open database and bus, with the stores that it makes buckets in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.bus import Bus
from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.errors import InvalidInputError
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretStore
from tidemill_common.storage.opening import open_buckets, open_store
from tidemill_gateway.catalogue.bucket_rows import BucketRows
from tidemill_gateway.catalogue.buckets import Buckets
from tidemill_gateway.catalogue.catalogue import Catalogue, CatalogueRules
from tidemill_gateway.catalogue.places import Places, Store, Stores
from tidemill_gateway.catalogue.rows import ServiceRows
from tidemill_gateway.catalogue.setting_rows import SettingRows
from tidemill_gateway.settings import Settings

_BLANK: Final = (None, "")


@asynccontextmanager
async def open_catalogue(
    settings: Settings, *, engine: AsyncEngine, bus: Bus, secrets: SecretStore
) -> AsyncIterator[Catalogue]:
    """A catalogue that can make buckets; its system bucket is there.

    Raises:
        InvalidInputError: The secrets directory has no record of the platform's store.
        TransientError: The store does not answer.
    """
    record = await secrets.get(PLATFORM)
    if record is None or DEFAULT_PROVIDER not in record.providers:
        raise InvalidInputError(f"secrets_dir: no record {PLATFORM!r} with {DEFAULT_PROVIDER}")
    rules = CatalogueRules(system_bucket=settings.system_bucket)
    fields, endpoint = record.providers[DEFAULT_PROVIDER], settings.store_endpoint
    async with open_s3(DEFAULT_PROVIDER, fields, client_endpoint=endpoint) as platform:
        await platform.buckets.create_bucket(settings.system_bucket)
        yield build_catalogue(engine=engine, bus=bus, secrets=secrets, stores=OpenedStores(platform), rules=rules)


def build_catalogue(
    *, engine: AsyncEngine, bus: Bus, secrets: SecretStore, stores: Stores, rules: CatalogueRules
) -> Catalogue:
    """A catalogue; it knows nothing before `load` or `run`."""
    rows = BucketRows(engine)
    places = Places(rows, stores, now=_now)
    return Catalogue(
        rows=ServiceRows(engine),
        settings=SettingRows(engine),
        places=places,
        buckets=Buckets(rows, places, stores, system_bucket=rules.system_bucket, now=_now),
        secrets=secrets,
        bus_log=bus.log,
        queue=bus.queue,
        rules=rules,
        now=_now,
    )


class OpenedStores:
    """The platform's store, open; others are opened when a Service names them."""

    def __init__(self, platform: Store) -> None:
        self._platform = platform

    def platform(self) -> Store:
        """The platform's own store."""
        return self._platform

    @asynccontextmanager
    async def other(self, provider: str, fields: Mapping[str, object]) -> AsyncIterator[Store]:
        """A user's provider."""
        async with open_s3(provider, fields) as store:
            yield store


@asynccontextmanager
async def open_s3(
    provider: str, fields: Mapping[str, object], *, client_endpoint: str | None = None
) -> AsyncIterator[Store]:
    """One S3 store.

    Args:
        client_endpoint: Where clients reach it; None: where we do.

    Raises:
        InvalidInputError: A field is missing or wrong.
    """
    async with open_store(provider, fields) as objects:  # checks the fields
        credentials = S3Credentials.model_validate(
            {name: value for name, value in fields.items() if value not in (None, "")}
        )
        public = credentials.model_copy(update={"endpoint": client_endpoint or credentials.endpoint})
        async with open_buckets(credentials) as buckets, open_buckets(public) as signer:
            yield Store(buckets, objects, signer)


def _now() -> datetime:
    return datetime.now(UTC)
