"""What `apply` would change, and where a mistake in an FDL file is. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tidemill_common.fdl import FdlError, ParsedService, parse_service

_OF_THE_SERVER: Final = frozenset({"owner", "namespace", "bucket_list", "secret_names"})
"""What the platform decides, or what is compared apart."""


class Action(StrEnum):
    """What `apply` would do with one Service."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one Service."""

    service: str
    action: Action
    fields: Mapping[str, tuple[object, object]]
    """Field -> (is, will be); None: it is not there. Secret values are never among them."""


def compare(wanted: Mapping[str, Any], present: Mapping[str, Any] | None) -> Change:
    """What applying `wanted` would change, where `present` is what the server shows."""
    if present is None:
        return Change(str(wanted.get("name")), Action.CREATE, {})
    owner, labels = str(present.get("owner") or ""), present.get("labels") or {}
    old = parse_service(present, owner=owner, owner_name=labels.get("owner_name"))
    new = parse_service(wanted, owner=owner, owner_name=labels.get("owner_name"))
    before, after = _flat(old), _flat(new)
    names = (name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name))
    fields = {name: (before.get(name), after.get(name)) for name in names}
    fields |= _secret_changes(old, new)
    return Change(new.service.name, Action.UPDATE if fields else Action.UNCHANGED, fields)


def _flat(parsed: ParsedService) -> dict[str, object]:
    document = parsed.service.model_dump(mode="json", exclude=set(_OF_THE_SERVER))
    return dict(_leaves("", document))


def _leaves(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and (value or not prefix):
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), item)
    elif value not in (None, {}):
        yield prefix, value


def _secret_changes(old: ParsedService, new: ParsedService) -> dict[str, tuple[object, object]]:
    """Secrets that appear, go, or are sent with a value (whether it is another one cannot be known)."""
    changes: dict[str, tuple[object, object]] = {}
    sent, there = new.secrets.environment, set(old.service.secret_names)
    for name in sorted(there | sent.keys()):
        if name not in sent or name not in there or sent[name]:
            before, after = "(set)" if name in there else None, "(set)" if name in sent else None
            changes[f"environment.secrets.{name}"] = (before, after)
    return changes


def describe(change: Change) -> list[str]:
    """The change in lines for people."""
    head = {"create": "+", "update": "~", "unchanged": "="}[change.action]
    lines = [f"{head} {change.service}: {change.action}"]
    for name, (old, new) in change.fields.items():
        if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
            lines += [f"    {name}:", *(f"      {line}" for line in _text_diff(old, new))]
        else:
            lines.append(f"    {name}: {_word(old)} -> {_word(new)}")
    return lines


def _text_diff(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++"))]


def _word(value: object) -> str:
    return "(none)" if value is None else str(value)


def show_mistake(error: FdlError, text: str | None) -> str:
    """The error with the line of the file it is about, and a mark below the column."""
    if error.line is None or text is None:
        return str(error)
    lines = text.splitlines()
    if not 1 <= error.line <= len(lines):
        return str(error)
    gutter = f"{error.line:>5} | "
    column = max(1, error.column or 1)
    line = lines[error.line - 1].replace("\t", " ")
    return f"{error}\n{gutter}{line}\n{' ' * (len(gutter) + column - 1)}^"
