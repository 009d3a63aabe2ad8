"""Statements compiled once and handed to the driver as they are, for what happens thousands of times a second.

Building a statement of thirty columns costs Core more than running it costs the database. Tables and types stay the
only truth: text, order of parameters and conversions are asked of them, once for each dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One statement of one dialect."""

    text: str
    names: tuple[str, ...]
    """Of its parameters, in their order."""
    inward: tuple[tuple[int, Convert], ...] = ()
    """Parameters that the driver takes in another form."""

    def parameters(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Values in the order of `names`, as the driver takes them."""
        converted = list(values)
        for index, convert in self.inward:
            converted[index] = convert(converted[index])
        return tuple(converted)


Build = Callable[[AsyncConnection], sa.Executable]
_PREPARED: Final[dict[tuple[str, Build], Prepared]] = {}


def prepared(connection: AsyncConnection, build: Build) -> Prepared:
    """What `build` makes, compiled; it must make the same statement each time."""
    key = (connection.dialect.name, build)
    if (found := _PREPARED.get(key)) is None:
        found = _PREPARED[key] = _compiled(build(connection), connection.dialect)
    return found


def _compiled(statement: Any, dialect: sa.Dialect) -> Prepared:
    compiled = statement.compile(dialect=dialect)
    names = tuple(compiled.positiontup)
    types = [compiled.binds[name].type.dialect_impl(dialect) for name in names]
    converters = ((index, each.bind_processor(dialect)) for index, each in enumerate(types))
    inward = tuple((index, convert) for index, convert in converters if convert is not None)
    return Prepared(text=str(compiled), names=names, inward=inward)


def outward(columns: Sequence[sa.Column[Any]], dialect: sa.Dialect) -> tuple[tuple[int, Convert], ...]:
    """Which of these columns the driver gives in another form than their types say, and how to convert them."""
    types = [column.type.dialect_impl(dialect) for column in columns]
    converters = ((index, each.result_processor(dialect, None)) for index, each in enumerate(types))
    return tuple((index, convert) for index, convert in converters if convert is not None)
