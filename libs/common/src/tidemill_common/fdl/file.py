"""An FDL file as documents to post, read by clients; every error says file, line and column.

The file is composed to YAML nodes, which know where they stand. Texts that OSCAR wants as text (quantities, variables,
labels) are taken as written, so `VERSION: 1.10` stays `1.10`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl.marks import Located, MarkedError, compose
from tidemill_common.fdl.parsing import parse_service
from tidemill_common.fdl.reading import Field, FieldError, Place


class FdlError(InvalidInputError):
    """An FDL file is wrong.

    Args:
        file: The file.
        reason: What is wrong, with its place in the document.
        line: Counted from 1; None: the file as a whole.
        column: Counted from 1.
    """

    def __init__(self, file: Path, reason: str, *, line: int | None = None, column: int | None = None) -> None:
        where = str(file) if line is None else f"{file}:{line}:{column}"
        super().__init__(f"{where}: {reason}")
        self.file = file
        self.reason = reason
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True, kw_only=True)
class FdlService:
    """One entry of `functions.oscar`."""

    cluster_id: str
    """The key of its map."""
    document: dict[str, Any] = field(repr=False)
    """Ready to post: script content in place, `cluster_id` set, providers and clusters merged."""

    @property
    def name(self) -> str:
        """The Service's name."""
        return Field(self.document).child("name").text()


def load_fdl(path: Path) -> list[FdlService]:
    """The Services of an FDL file, in its order, checked as the platform will check them.

    Raises:
        FdlError: The file, a script it names, or a definition in it is wrong.
    """
    located = _compose(path)
    try:
        entries = Field(located.document).child("functions").child("oscar")
        if not entries:
            raise FieldError(("functions", "oscar"), "is required: a list of Services")
        return [_service(entry, located, path) for entry in entries.items()]
    except FieldError as error:
        line, column = located.mark(error.place)
        raise FdlError(path, str(error), line=line, column=column) from error


def _compose(path: Path) -> Located:
    try:
        return compose(_read(path))
    except MarkedError as error:
        raise FdlError(path, error.reason, line=error.line, column=error.column) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FdlError(path, _why(error)) from error


def _service(entry: Field, located: Located, path: Path) -> FdlService:
    if len(entry.fields()) != 1:
        raise entry.error("must be a map of one key, the cluster's id")
    ((cluster_id, definition),) = entry.fields().items()
    document = dict(definition.mapping())
    script = definition.child("script")
    document[str(script.place[-1])] = _script(script, path.parent)
    _set(document, "cluster_id", cluster_id)
    shared = Field(located.document)
    for name in ("storage_providers", "clusters"):
        if block := shared.child(name):
            _set(document, name, _merged(definition.child(name), block))
    try:
        parse_service(document, owner="")
    except FieldError as error:
        raise FieldError(_place_in_file(error.place, definition.place, located), error.reason) from error
    return FdlService(cluster_id=cluster_id, document=document)


def _place_in_file(place: Place, base: Place, located: Located) -> Place:
    """Where a field of a Service stands: in its own definition, or in a block that it shares with others."""
    inside = (*base, *place)
    shared = place if place and place[0] in ("storage_providers", "clusters") else None
    return place if shared and inside not in located.marks and place in located.marks else inside


def _set(document: dict[str, Any], name: str, value: object) -> None:
    for key in [key for key in document if key.lower() == name]:
        del document[key]
    document[name] = value


def _merged(own: Field, shared: Field) -> dict[str, Any]:
    """Two maps of maps; where both define an id, the file's block wins over the Service's, as in OSCAR's CLI."""
    merged = {key: _plain(value) for key, value in own.mapping().items()}
    for key, value in shared.mapping().items():
        before = merged.get(key)
        merged[key] = {**before, **_plain(value)} if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _plain(value: object) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _script(script: Field, folder: Path) -> str:
    name = script.text()
    if not name.strip():
        raise script.error("is required: the path of a script, relative to this file")
    try:
        return _read(folder / name).replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise script.error(f"{name}: {_why(error)}") from error


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
