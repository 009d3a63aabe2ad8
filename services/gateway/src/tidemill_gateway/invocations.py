"""Reads Invocations from SQL: one, pages newest first, counts, accounts; hides what a user deleted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import Phase, Reason
from tidemill_common.errors import NotFoundError
from tidemill_gateway.changes import Changes
from tidemill_gateway.domain.account import Account
from tidemill_gateway.domain.cursor import Cursor
from tidemill_gateway.domain.fold import InvocationRow
from tidemill_gateway.sql.accounts import read_accounts
from tidemill_gateway.sql.engine import reading, writing
from tidemill_gateway.sql.invocation_rows import from_columns
from tidemill_gateway.sql.positions import skipped_records
from tidemill_gateway.sql.projection_tables import invocations

JOBS_PAGE: Final = 70
"""Page size of OSCAR's logs (contract 1.10)."""
_ENDED: Final = (Phase.SUCCEEDED.value, Phase.FAILED.value, Phase.CANCELLED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationFilter:
    """Which Invocations; None: any."""

    service: str | None = None
    phase: Phase | None = None
    dead: bool | None = None
    reason: Reason | None = None
    since: datetime | None = None
    """Requested at this instant or later."""
    until: datetime | None = None
    """Requested before this instant."""
    redrive_of: str | None = None
    hidden: bool = False
    """True: also those that were deleted through OSCAR's API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some Invocations, newest first."""

    rows: Sequence[InvocationRow]
    next: str | None = None
    """Cursor of the next page; None: this is the last."""
    remaining: int = 0
    """How many come after this page; only counted by `jobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The accounts of all Services, and what no account can have."""

    accounts: Sequence[Account]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Records that retention dropped before a projection saw them."""


class InvocationQueries:
    """All that can be asked about Invocations."""

    def __init__(self, engine: AsyncEngine, changes: Changes, *, patience: float = 0.5) -> None:
        self._engine = engine
        self._changes = changes
        self._patience = patience
        """Seconds that `await_known` and `await_ended` wait at most, when not told."""

    async def get(self, invocation: str) -> InvocationRow:
        """One Invocation.

        Raises:
            NotFoundError: It is not known (yet, or any more).
        """
        async with reading(self._engine) as connection:
            found = await connection.execute(sa.select(invocations).where(invocations.c.id == invocation))
            record = found.mappings().first()
        if record is None:
            raise NotFoundError(f"there is no invocation {invocation}")
        return from_columns(record)

    async def await_known(self, invocation: str, *, patience: float | None = None) -> InvocationRow:
        """One Invocation; waits for one that was accepted but not projected yet.

        Raises:
            NotFoundError: It did not become known.
        """
        with self._changes.follow(InvocationId(invocation)) as changed:
            try:
                return await self.get(invocation)
            except NotFoundError:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._patience if patience is None else patience)
            return await self.get(invocation)

    async def await_ended(self, invocation: str, *, patience: float | None = None) -> InvocationRow:
        """One Invocation; waits for its end to be projected."""
        with self._changes.follow(InvocationId(invocation)) as changed, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience if patience is None else patience):
                while not await self._has_ended(invocation):
                    await changed.wait()
                    changed.clear()
        return await self.get(invocation)

    async def _has_ended(self, invocation: str) -> bool:
        try:
            return (await self.get(invocation)).is_terminal
        except NotFoundError:
            return False

    async def list(self, wanted: InvocationFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        """A page, newest first.

        Raises:
            InvalidInputError: The cursor is not one of ours.
        """
        query = _filtered(sa.select(invocations), wanted)
        if cursor:
            last = Cursor.decode(cursor)
            query = query.where(sa.tuple_(invocations.c.requested_at, invocations.c.id) < sa.tuple_(*_bound(last)))
        query = query.order_by(invocations.c.requested_at.desc(), invocations.c.id.desc()).limit(limit + 1)
        async with reading(self._engine) as connection:
            rows = [from_columns(record) for record in (await connection.execute(query)).mappings()]
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(rows=rows, next=Cursor(rows[-1].requested_at, rows[-1].id).encode() if more else None)

    async def count(self, wanted: InvocationFilter) -> int:
        """How many there are."""
        async with reading(self._engine) as connection:
            found = await connection.execute(_filtered(sa.select(sa.func.count()).select_from(invocations), wanted))
            return int(found.scalar_one())

    async def jobs(self, service: str, *, cursor: str | None = None) -> Page:
        """A page of OSCAR's logs of one Service, with the number of what comes after it."""
        page = await self.list(InvocationFilter(service=service), cursor=cursor, limit=JOBS_PAGE)
        if page.next is None:
            return page
        last = page.rows[-1]
        older = _filtered(sa.select(sa.func.count()).select_from(invocations), InvocationFilter(service=service)).where(
            sa.tuple_(invocations.c.requested_at, invocations.c.id)
            < sa.tuple_(*_bound(Cursor(last.requested_at, last.id)))
        )
        async with reading(self._engine) as connection:
            remaining = int((await connection.execute(older)).scalar_one())
        return Page(rows=page.rows, next=page.next, remaining=remaining)

    async def phases(self, service: str | None = None) -> Mapping[str, Mapping[Phase, int]]:
        """How many Invocations of each Service are in each phase; deleted ones are left out."""
        table = invocations.c
        query = sa.select(table.service, table.phase, sa.func.count()).where(table.hidden.is_(False))
        query = query.group_by(table.service, table.phase)
        if service is not None:
            query = query.where(table.service == service)
        counts: dict[str, dict[Phase, int]] = {}
        async with reading(self._engine) as connection:
            for name, phase, number in await connection.execute(query):
                counts.setdefault(name, {})[Phase(phase)] = int(number)
        return counts

    async def books(self, service: str | None = None) -> Books:
        """The accounts, all of one instant."""
        async with reading(self._engine) as connection:
            return Books(accounts=await read_accounts(connection, service), skipped=await skipped_records(connection))

    async def hide(self, service: str, *, only_succeeded: bool = True) -> int:
        """Delete a Service's ended Invocations from lists; returns how many. Open ones stay."""
        phases = (Phase.SUCCEEDED.value,) if only_succeeded else _ENDED
        return await self._hide(invocations.c.service == service, phases)

    async def hide_one(self, service: str, invocation: str) -> bool:
        """Delete one ended Invocation from lists; False: it is not there, or not ended."""
        own = sa.and_(invocations.c.service == service, invocations.c.id == invocation)
        return await self._hide(own, _ENDED) == 1

    async def _hide(self, condition: sa.ColumnElement[bool], phases: tuple[str, ...]) -> int:
        hidden = invocations.c.hidden
        query = sa.update(invocations).where(condition, invocations.c.phase.in_(phases), hidden.is_(False))
        async with writing(self._engine) as connection:
            return int((await connection.execute(query.values(hidden=True))).rowcount)


def _bound(cursor: Cursor) -> tuple[sa.BindParameter[datetime], sa.BindParameter[str]]:
    return (
        sa.bindparam(None, cursor.at, type_=invocations.c.requested_at.type),
        sa.bindparam(None, cursor.id, type_=invocations.c.id.type),
    )


def _filtered(query: sa.Select[Any], wanted: InvocationFilter) -> sa.Select[Any]:
    table = invocations.c
    conditions = [
        getattr(table, name) == value
        for name in ("service", "phase", "dead", "reason", "redrive_of")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        conditions.append(table.requested_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(table.requested_at < wanted.until)
    if not wanted.hidden:
        conditions.append(table.hidden.is_(False))
    return query.where(*conditions)
