"""Who may send notifications: bearer tokens and the sources they stand for."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path

from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.errors import InvalidInputError, InvalidMessageError
from tidemill_storage_bridge.sources.reading import Node, Origin, node, parse_json


class Tokens:
    """Bearer tokens; looking one up takes the same time whether or not it is right."""

    def __init__(self, origins: Mapping[str, Origin]) -> None:
        self._origins = [(token.encode(), origin) for token, origin in origins.items()]

    @classmethod
    def read(cls, path: Path | None) -> Tokens:
        """The tokens in a file; None: there are none, and nobody may send.

        Raises:
            InvalidInputError: The file is not as it should be; says where, and never a token.
        """
        if path is None:
            return cls({})
        try:
            rows = node(parse_json(path.read_bytes(), str(path)), str(path)).members
            return cls({token: _origin(value, f"{path}: entry {number}") for number, (token, value) in _numbered(rows)})
        except (OSError, InvalidMessageError) as error:
            raise InvalidInputError(f"tokens file {path}: {error}") from error

    def origin(self, token: str) -> Origin | None:
        """Whom this token stands for; None: nobody."""
        found: Origin | None = None
        for known, origin in self._origins:
            if hmac.compare_digest(known, token.encode(errors="replace")):
                found = origin
        return found


def _numbered(rows: Mapping[str, object]) -> enumerate[tuple[str, object]]:
    return enumerate(rows.items(), start=1)


def _origin(value: object, where: str) -> Origin:
    if isinstance(value, str) and value:
        return Origin(name=value, provider=DEFAULT_PROVIDER)
    entry: Node = node(value, where)
    return Origin(name=entry.text("source"), provider=entry.optional_text("provider") or DEFAULT_PROVIDER)
