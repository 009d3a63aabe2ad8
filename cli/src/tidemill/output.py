"""What commands show: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out: Final = Console(highlight=False, soft_wrap=True)
err: Final = Console(stderr=True, highlight=False, soft_wrap=True)

_COLOURS: Final = {
    "Pending": "yellow",
    "Running": "cyan",
    "Succeeded": "green",
    "Failed": "red",
    "Cancelled": "magenta",
}


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("-o", "--output", help="How to print.", show_default=True)]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, and the field (dots go into objects)."""

    heading: str
    field: str
    right: bool = False


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], form: Format) -> None:
    """Print rows as a table, or whole as JSON."""
    if form is Format.JSON:
        show_json(list(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(_field(row, column.field)) for column in columns))
    Console(highlight=False, width=None if out.is_terminal else 400).print(table)


def show_json(value: object) -> None:
    """Print one JSON document."""
    out.print(json.dumps(value, indent=2, ensure_ascii=False, default=str), markup=False, soft_wrap=True)


def show_yaml(value: object) -> None:
    """Print one document for people, texts of several lines as they are."""
    out.print(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), markup=False, end="")


class _Dumper(yaml.SafeDumper):
    """YAML with literal blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _field(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "[red]no[/]"
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    text = str(value)
    colour = _COLOURS.get(text)
    return f"[{colour}]{text}[/]" if colour else escape(_short_time(text))


def _short_time(text: str) -> str:
    if len(text) < 19 or text[4:5] != "-" or text[10:11] != "T":
        return text
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def coloured(phase: str) -> str:
    """A phase, in its colour."""
    return f"[{_COLOURS.get(phase, 'white')}]{phase}[/]"


def size_text(size_bytes: int | None) -> str:
    """Bytes for people."""
    if size_bytes is None:
        return ""
    number = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
