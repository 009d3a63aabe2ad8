"""`/v1/dead-letters`: list, show, redrive one or many, purge."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import Reason
from tidemill_common.errors import InvalidInputError
from tidemill_gateway.auth import admin
from tidemill_gateway.dead_letters import DeadLetters, LetterFilter
from tidemill_gateway.dependencies import Dependencies
from tidemill_gateway.repeats import Edit, Repeats
from tidemill_gateway.routes.v1.views import DeadLetterDetail, DeadLetterList, Started


class RedriveEdit(BaseModel):
    """What to put in the place of the old input; nothing: run it as it was."""

    payload: str | None = Field(default=None, description="Text")
    payload_base64: str | None = Field(default=None, description="Bytes; in the place of `payload`")
    content_type: str | None = None
    artifact: ArtifactRef | None = Field(default=None, description="Another object to stage in")

    def edit(self) -> Edit | None:
        """The use case's own value; None: nothing is edited."""
        if self.payload is None and self.payload_base64 is None and self.artifact is None:
            return None
        return Edit(payload=self._bytes(), content_type=self.content_type, artifact=self.artifact)

    def _bytes(self) -> bytes | None:
        if self.payload_base64 is None:
            return self.payload.encode() if self.payload is not None else None
        try:
            return base64.b64decode(self.payload_base64, validate=True)
        except binascii.Error as error:
            raise InvalidInputError(f"payload_base64: {error}") from error


class RedriveMany(BaseModel):
    """Which dead letters to redrive, and how fast."""

    service: str | None = None
    reason: Reason | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: int = Field(default=1000, ge=1, le=10_000)
    per_second: float = Field(default=100, gt=0, le=1000, description="Not faster than this")

    def wanted(self) -> LetterFilter:
        """The filter."""
        return LetterFilter(service=self.service, reason=self.reason, since=self.since, until=self.until)


class RedrivenMany(BaseModel):
    """What became of them."""

    invocations: dict[str, str] = Field(description="Old Invocation to new one")
    failed: dict[str, str] = Field(description="Old Invocation to why not")
    more: bool = Field(description="There were more than the limit")


class Purged(BaseModel):
    """How many were removed."""

    purged: int


def router(deps: Dependencies, repeats: Repeats) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], dependencies=[Depends(admin(deps.admin))])
    letters = DeadLetters(engine=deps.engine, bus_log=deps.bus.log, repeats=repeats)

    @routes.get("", summary="List, newest first")
    async def list_dead_letters(
        service: str | None = None,
        reason: Reason | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> DeadLetterList:
        wanted = LetterFilter(service=service, reason=reason, since=since, until=until)
        return DeadLetterList.of(await letters.list(wanted, cursor=cursor, limit=limit))

    @routes.post("/redrive", summary="Redrive many, at a limited rate")
    async def redrive_dead_letters(which: RedriveMany) -> RedrivenMany:
        done = await letters.redrive_many(which.wanted(), limit=which.limit, per_second=which.per_second)
        return RedrivenMany(invocations=dict(done.invocations), failed=done.failed, more=done.more)

    @routes.get("/{invocation}", summary="One dead letter with its Event")
    async def get_dead_letter(invocation: str) -> DeadLetterDetail:
        return DeadLetterDetail.detailed(await letters.get(invocation))

    @routes.post("/{invocation}/redrive", status_code=201, summary="Run it again, as it was or edited")
    async def redrive_dead_letter(invocation: str, response: Response, edit: RedriveEdit | None = None) -> Started:
        letter = await letters.get(invocation)
        new = await letters.redrive(letter, edit.edit() if edit else None)
        response.headers["location"] = f"/v1/invocations/{new}"
        return Started(id=new, redrive_of=invocation)

    @routes.delete("", summary="Purge many")
    async def purge_dead_letters(
        service: str | None = None,
        reason: Reason | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Purged:
        wanted = LetterFilter(service=service, reason=reason, since=since, until=until)
        return Purged(purged=await letters.purge_many(wanted, limit=limit))

    @routes.delete("/{invocation}", status_code=204, summary="Purge one")
    async def purge_dead_letter(invocation: str) -> None:
        await letters.purge(await letters.get(invocation))

    return routes
