"""Dead letters: list, show, redrive, purge. A letter is gone from DEAD before it is gone from SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.bus import Log, Position
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import SET_ASIDE, DeadLetter, Invocation, Reason
from tidemill_common.errors import NotFoundError, PermanentError
from tidemill_gateway.domain.cursor import Cursor
from tidemill_gateway.repeats import Edit, Repeat, Repeats
from tidemill_gateway.sql.engine import reading, writing
from tidemill_gateway.sql.projection_tables import dead_letters


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters; None: any."""

    service: str | None = None
    reason: Reason | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter and where it is on DEAD."""

    body: DeadLetter
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPage:
    """Some dead letters, newest first."""

    letters: Sequence[Letter]
    next: str | None = None


@dataclass(slots=True, kw_only=True)
class Redriven:
    """What became of a redrive of many."""

    invocations: dict[str, InvocationId] = field(default_factory=dict)
    """Old Invocation -> new one."""
    failed: dict[str, str] = field(default_factory=dict)
    """Old Invocation -> why not."""
    more: bool = False
    """There were more than the limit."""


class DeadLetters:
    """All that can be done with dead letters."""

    def __init__(self, *, engine: AsyncEngine, bus_log: Log, repeats: Repeats) -> None:
        self._engine = engine
        self._log = bus_log
        self._repeats = repeats

    async def get(self, invocation: str) -> Letter:
        """The dead letter of one Invocation.

        Raises:
            NotFoundError: There is none.
        """
        async with reading(self._engine) as connection:
            found = await connection.execute(sa.select(dead_letters).where(dead_letters.c.id == invocation))
            record = found.mappings().first()
        if record is None:
            raise NotFoundError(f"there is no dead letter of invocation {invocation}")
        return _letter(record)

    async def list(self, wanted: LetterFilter, *, cursor: str | None = None, limit: int = 50) -> LetterPage:
        """A page, newest first."""
        table = dead_letters.c
        query = _filtered(sa.select(dead_letters), wanted)
        if cursor:
            last = Cursor.decode(cursor)
            bound = sa.tuple_(sa.bindparam(None, last.at, type_=table.at.type), sa.bindparam(None, last.id))
            query = query.where(sa.tuple_(table.at, table.id) < bound)
        query = query.order_by(table.at.desc(), table.id.desc()).limit(limit + 1)
        async with reading(self._engine) as connection:
            letters = [_letter(record) for record in (await connection.execute(query)).mappings()]
        more = len(letters) > limit
        letters = letters[:limit]
        following = Cursor(letters[-1].body.at, letters[-1].body.invocation.id).encode() if more else None
        return LetterPage(letters=letters, next=following)

    async def redrive(self, letter: Letter, edit: Edit | None = None) -> InvocationId:
        """Run it again as a new Invocation, and take the letter away. Repeating it after a crash gives the same one."""
        old = letter.body.invocation
        # a letter is redriven once, so its repeat has a number of its own: 0
        repeat = Repeat(event=old.event, invocation=old.id, service=old.service, number="0")
        new = await self._repeats.append(repeat, edit)
        await self.purge(letter)
        return new

    async def redrive_many(self, wanted: LetterFilter, *, limit: int, per_second: float) -> Redriven:
        """Redrive up to `limit` letters, oldest of the page last, not faster than asked."""
        page = await self.list(wanted, limit=limit)
        done = Redriven(more=page.next is not None)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, letter in enumerate(page.letters):
            await asyncio.sleep(max(0.0, begun + number / per_second - loop.time()))
            old = letter.body.invocation.id
            try:
                done.invocations[old] = await self.redrive(letter)
            except PermanentError as error:
                done.failed[old] = str(error)
        return done

    async def purge(self, letter: Letter) -> None:
        """Take a letter away for ever; one that is gone already is success."""
        await self._log.delete(SET_ASIDE, letter.position)
        async with writing(self._engine) as connection:
            await connection.execute(
                sa.delete(dead_letters).where(
                    dead_letters.c.id == letter.body.invocation.id, dead_letters.c.position == letter.position
                )
            )

    async def purge_many(self, wanted: LetterFilter, *, limit: int) -> int:
        """Purge up to `limit` letters; returns how many."""
        page = await self.list(wanted, limit=limit)
        for letter in page.letters:
            await self.purge(letter)
        return len(page.letters)


def _letter(record: sa.RowMapping) -> Letter:
    body = DeadLetter(
        invocation=Invocation.decode(record["invocation"].encode()),
        reason=Reason(record["reason"]),
        message=record["message"],
        attempts=record["attempts"],
        exit_code=record["exit_code"],
        log_tail=record["log_tail"],
        at=record["at"],
    )
    return Letter(body=body, position=Position(record["position"]))


def _filtered(query: sa.Select[Any], wanted: LetterFilter) -> sa.Select[Any]:
    table = dead_letters.c
    if wanted.service is not None:
        query = query.where(table.service == wanted.service)
    if wanted.reason is not None:
        query = query.where(table.reason == wanted.reason)
    if wanted.since is not None:
        query = query.where(table.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.at < wanted.until)
    return query
