"""A whole gateway on a platform in memory, projections running, and a client with the admin's credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition, make_template, open_platform
from tidemill_common.contracts.contract import InvocationId, ServiceName
from tidemill_common.contracts.event import RECEIVED, EventReceived
from tidemill_common.contracts.invocation import (
    LOG_WRITTEN,
    SET_ASIDE,
    Change,
    DeadLetter,
    Invocation,
    InvocationChanged,
    LogWritten,
    Reason,
    changed_subject,
)
from tidemill_gateway.app import Opened, assemble, build_app, working
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PATIENCE: Final = 30.0
"""Seconds; projections follow within milliseconds, unless the machine has something else to do."""


@dataclass
class Gateway:
    """A gateway, and what the other components would do."""

    platform: Platform
    deps: Dependencies
    client: httpx.AsyncClient
    token: str
    told: int = field(default=0)

    async def job(self, body: bytes = b"hello", **headers: str) -> str:
        """Call the Service; the Invocation's id."""
        answer = await self.client.post("/job/thumb", content=body, auth=_Bearer(self.token), headers=headers)
        assert answer.status_code == 201
        return answer.headers["tidemill-invocation-id"]

    async def tell(self, invocation: str, change: Change, attempt: int = 1, **more: Any) -> None:
        """Append a record to LIFECYCLE, as routing and Workers do; a second after the one before."""
        self.told += 1
        record = InvocationChanged.model_validate(
            {
                "invocation_id": invocation,
                "service": "thumb",
                "change": change,
                "attempt": 0 if change is Change.REQUESTED else attempt,
                "at": NOW + timedelta(seconds=self.told),
                **more,
            }
        )
        await self.platform.bus.log.append(
            changed_subject(change), record, key=record.service, message_id=record.message_id()
        )

    async def run_to(self, invocation: str, change: Change, **more: Any) -> None:
        """Everything from `requested` to this end, and wait until it is projected."""
        event = (await self.events())[-1]
        await self.tell(invocation, Change.REQUESTED, event_id=event.id, trigger="direct")
        await self.tell(invocation, Change.STARTED)
        await self.tell(invocation, change, **more)
        await self.deps.queries.await_ended(invocation)

    async def die(self, invocation: str) -> None:
        """End dead, with a dead letter."""
        await self.run_to(invocation, Change.DEAD, reason=Reason.SCRIPT_FAILED, exit_code=3)
        event = (await self.events())[-1]
        letter = DeadLetter(
            invocation=Invocation(
                id=InvocationId(invocation), service=ServiceName("thumb"), event=event, requested_at=NOW
            ),
            reason=Reason.SCRIPT_FAILED,
            message="exit code 3",
            attempts=3,
            exit_code=3,
            log_tail="boom",
            at=NOW,
        )
        await self.platform.bus.log.append(SET_ASIDE, letter, key="thumb", message_id=invocation)
        async with asyncio.timeout(PATIENCE):
            while (await self.client.get(f"/v1/dead-letters/{invocation}")).status_code == 404:
                await asyncio.sleep(0)

    async def write(self, invocation: str, first: int, *lines: str) -> None:
        """Append lines of user code to LOGS."""
        written = LogWritten(
            invocation_id=InvocationId(invocation),
            service=ServiceName("thumb"),
            attempt=1,
            first_line=first,
            at=NOW,
            lines=lines,
        )
        await self.platform.bus.log.append(LOG_WRITTEN, written, key=f"thumb.{invocation}")

    async def events(self) -> list[EventReceived]:
        """What is on EVENTS."""
        async with self.platform.bus.log.read(RECEIVED) as records:
            return [record.body async for record in records]

    def as_service(self) -> httpx.Auth:
        """The credentials of the Service."""
        return _Bearer(self.token)


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with empty tables."""
    return make_template(tmp_path_factory.mktemp("template") / "gateway.db")


@pytest.fixture
async def gateway(tmp_path: Path, template: Path) -> AsyncIterator[Gateway]:
    """With one Service, `thumb`."""
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(open_platform(tmp_path, template))
        settings = Settings.model_validate({"password": "pw"})
        opened = Opened(
            bus=platform.bus,
            engine=platform.engine,
            secrets=platform.secrets,
            store=platform.stores.own,
            catalogue=platform.catalogue,
        )
        assembled = assemble(settings, opened, asyncio.Event())
        queries = InvocationQueries(platform.engine, assembled.changes, patience=PATIENCE)
        deps = replace(assembled, queries=queries)
        created = await platform.catalogue.create(definition("thumb"), who="oscar")
        await stack.enter_async_context(working(deps))
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(build_app(deps)), base_url="http://gateway", auth=("oscar", "pw")
            )
        )
        yield Gateway(platform=platform, deps=deps, client=client, token=created.token)
