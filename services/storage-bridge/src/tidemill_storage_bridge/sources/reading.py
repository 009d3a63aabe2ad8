"""Reading untrusted JSON: every way in which it can be wrong is InvalidMessageError, and says where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tidemill_common.errors import InvalidMessageError

LONGEST_KEY: Final = 4096
LONGEST_NAME: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sends: the name behind the token, and the provider whose objects it tells of."""

    name: str
    provider: str

    @property
    def source(self) -> str:
        """The Event's `source`."""
        return f"/sources/http/{self.name}"


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON object and where it stands in the document."""

    members: Mapping[str, object]
    where: str

    def child(self, name: str) -> Node:
        """A member that must be an object."""
        return node(self.members.get(name), self.at(name))

    def text(self, name: str, *, longest: int = LONGEST_NAME) -> str:
        """A member that must be a string with something in it."""
        found = self.optional_text(name, longest=longest)
        if found is None:
            raise InvalidMessageError(f"{self.at(name)}: missing, or not a text")
        return found

    def optional_text(self, name: str, *, longest: int = LONGEST_NAME) -> str | None:
        """A member if it is a string with something in it."""
        value = self.members.get(name)
        if not isinstance(value, str) or not value:
            return None
        return checked_text(value, self.at(name), longest=longest)

    def time(self, name: str) -> datetime:
        """A member that must be a time: ISO 8601, or seconds since 1970."""
        value = self.members.get(name)
        try:
            if isinstance(value, str):
                return _aware(datetime.fromisoformat(value))
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidMessageError(f"{self.at(name)}: not a time") from error
        raise InvalidMessageError(f"{self.at(name)}: missing, or not a time")

    def size(self, name: str) -> int | None:
        """A member if it is a number of bytes; some stores send it as text."""
        value = self.members.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            return None
        return value

    def at(self, name: str) -> str:
        """Where a member stands."""
        return f"{self.where}.{name}" if self.where else name


def node(value: object, where: str) -> Node:
    """A value that must be a JSON object."""
    if not isinstance(value, dict):
        raise InvalidMessageError(f"{where or 'body'}: not an object")
    return Node(value, where)


def parse_json(body: bytes | str, where: str = "body") -> object:
    """The JSON value in `body`.

    Raises:
        InvalidMessageError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: also UnicodeDecodeError and absurdly long numbers
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidMessageError(f"{where}: not JSON: {reason}") from error


def checked_text(value: str, where: str, *, longest: int) -> str:
    """A text that can travel: valid Unicode, not too long."""
    if len(value) > longest:
        raise InvalidMessageError(f"{where}: longer than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessageError(f"{where}: not valid Unicode") from error
    return value


def _aware(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
