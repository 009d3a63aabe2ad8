"""`/v1/events` and `/v1/replays`: what arrived, and running it again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field

from tidemill_common.contracts.service import Service
from tidemill_common.errors import NotFoundError
from tidemill_gateway.auth import admin
from tidemill_gateway.calls import fresh_id
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.events import EventFilter, Events
from tidemill_gateway.repeats import Repeats
from tidemill_gateway.routes.v1.views import EventList, EventView


class ReplayAsked(BaseModel):
    """Which stretch of the log to run again for which Service."""

    service: str
    since: AwareDatetime
    until: AwareDatetime | None = Field(default=None, description="Null: to the end")
    bucket: str | None = None
    id: str | None = Field(
        default=None, max_length=64, description="Your own name for this replay: asking again adds nothing twice"
    )


class ReplayDone(BaseModel):
    """What the replay did."""

    id: str
    matched: int
    appended: int


def router(deps: Dependencies, repeats: Repeats) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["events"], dependencies=[Depends(admin(deps.admin))])
    events = Events(deps.bus.log)

    def known(name: str) -> Service:
        service = deps.catalogue.get_cached(name)
        if service is None:
            raise NotFoundError(f"there is no service {name}")
        return service

    @routes.get("/events", summary="The log of what arrived, oldest first")
    async def list_events(
        service: str | None = None,
        bucket: str | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        start: Annotated[int | None, Query(ge=1)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> EventList:
        wanted = EventFilter(
            service=known(service) if service else None, bucket=bucket or None, since=since, until=until
        )
        page = await events.page(wanted, start=start, limit=limit)
        return EventList(items=[EventView.of(record) for record in page.records], next=page.next)

    @routes.get("/events/{position}", summary="One Event")
    async def get_event(position: int) -> EventView:
        return EventView.of(await events.get(position))

    @routes.post("/replays", status_code=201, summary="Run a stretch of the log again for one Service")
    async def replay(asked: ReplayAsked) -> ReplayDone:
        service = known(asked.service)
        wanted = EventFilter(service=service, bucket=asked.bucket, since=asked.since, until=asked.until)
        identity = asked.id or fresh_id()
        done = await events.replay(wanted, service, repeats, replay_id=identity)
        return ReplayDone(id=identity, matched=done.matched, appended=done.appended)

    return routes
