"""A client of the gateway's HTTP application on a platform in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from tests.unit.gateway.catalogue.platforms import Platform, make_template, open_platform
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.calls import Calls, Replies
from tidemill_gateway.changes import Changes
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.logs import InvocationLogs
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.payloads import StoredPayloads
from tidemill_gateway.problems import add_handlers
from tidemill_gateway.routes import oscar
from tidemill_gateway.settings import Settings


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with empty tables."""
    return make_template(tmp_path_factory.mktemp("template") / "gateway.db")


@pytest.fixture
async def platform(tmp_path: Path, template: Path) -> AsyncIterator[Platform]:
    """A platform without Services."""
    async with open_platform(tmp_path, template) as platform:
        yield platform


@pytest.fixture
def dependencies(platform: Platform) -> Dependencies:
    """What the routes get."""
    changes = Changes()
    payloads = StoredPayloads(platform.stores.own, "tidemill")
    return Dependencies(
        settings=Settings(password=SecretStr("pw"), store_endpoint="http://store.example.org"),
        bus=platform.bus,
        engine=platform.engine,
        secrets=platform.secrets,
        store=platform.stores.own,
        catalogue=platform.catalogue,
        admin=AdminCredentials(username="oscar", password="pw"),
        queries=InvocationQueries(platform.engine, changes),
        logs=InvocationLogs(platform.bus.log),
        payloads=payloads,
        calls=Calls(bus_log=platform.bus.log, payloads=payloads, inline_limit_bytes=1024),
        replies=Replies(platform.bus.live, "g", limit=1),
        access_log=AccessLog(10),
        metrics=Metrics(),
        changes=changes,
        exposed_states=ExposedStates(platform.bus.registers, platform.bus.live),
    )


@pytest.fixture
async def anyone(dependencies: Dependencies) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    app = FastAPI(redirect_slashes=False)
    add_handlers(app)
    app.include_router(oscar.router(dependencies))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def client(anyone: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with the admin's credentials."""
    anyone.auth = httpx.BasicAuth("oscar", "pw")
    return anyone
