"""A whole platform in memory but for SQL, which is SQLite in a file of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.unit.gateway.catalogue.twins import MemoryStores
from tidemill_common.bus import Bus
from tidemill_common.bus.opening import open_bus
from tidemill_common.contracts.service import DEFAULT_PROVIDER, DEFINED, ServiceDefined
from tidemill_common.secrets import PLATFORM, MemorySecretStore, SecretRecord
from tidemill_common.settings import BusSettings
from tidemill_gateway.catalogue import Catalogue, CatalogueRules
from tidemill_gateway.catalogue.opening import build_catalogue
from tidemill_gateway.migrations import load_tables
from tidemill_gateway.sql.engine import open_database

STORE = {"endpoint": "http://127.0.0.1:8333", "access_key": "AK", "secret_key": "SK", "region": "us-east-1"}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the catalogue stands on."""

    engine: AsyncEngine
    bus: Bus
    secrets: MemorySecretStore
    stores: MemoryStores
    catalogue: Catalogue

    def replica(self) -> Catalogue:
        """Another gateway's catalogue on the same database, bus and stores."""
        return build_catalogue(
            engine=self.engine, bus=self.bus, secrets=self.secrets, stores=self.stores, rules=CatalogueRules()
        )

    async def definitions(self) -> dict[str, ServiceDefined]:
        """What the bus tells of each name."""
        async with self.bus.log.read(DEFINED) as records:
            return {record.body.name: record.body async for record in records}


@asynccontextmanager
async def open_platform(directory: Path, template: Path) -> AsyncIterator[Platform]:
    """A platform without Services."""
    shutil.copy(template, directory / "gateway.db")
    secrets, stores = MemorySecretStore(), MemoryStores()
    await secrets.put(PLATFORM, SecretRecord(providers={DEFAULT_PROVIDER: dict(STORE)}))
    async with (
        open_database(f"sqlite+aiosqlite:///{directory}/gateway.db") as engine,
        open_bus(BusSettings(url="memory://"), name="gateway") as bus,
    ):
        catalogue = build_catalogue(engine=engine, bus=bus, secrets=secrets, stores=stores, rules=CatalogueRules())
        yield Platform(engine=engine, bus=bus, secrets=secrets, stores=stores, catalogue=catalogue)


def make_template(path: Path) -> Path:
    """A database with all tables, to copy: faster than making them for each test."""
    engine = sa.create_engine(f"sqlite:///{path}")
    load_tables().create_all(engine)
    engine.dispose()
    return path


def definition(name: str = "edge-blur", **fields: Any) -> dict[str, Any]:
    """A document that clients post."""
    return {
        "name": name,
        "image": "docker.io/acme/blur:1",
        "script": "#!/bin/sh\ntrue\n",
        "input": [{"storage_provider": "minio.default", "path": f"{name}/in"}],
        "output": [{"storage_provider": "minio.default", "path": f"{name}/out"}],
        **fields,
    }
