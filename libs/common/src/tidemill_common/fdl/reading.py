"""A loaded document, read field by field: every value knows where it stands, so an error says what and where.

Keys of known structure match in any case, null is absent, and a wrong type is an error (OSCAR contract, section 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl.durations import parse_duration

Place = tuple[str | int, ...]
"""Keys and indexes from the document's root."""

_INT_LIMIT: Final = 2**31 - 1


def place_text(place: Place) -> str:
    """`("input", 1, "path")` as `input[1].path`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


class FieldError(InvalidInputError):
    """A field of a definition is wrong.

    Args:
        place: Where it is.
        reason: What is wrong with it.
    """

    def __init__(self, place: Place, reason: str) -> None:
        where = place_text(place)
        super().__init__(f"{where}: {reason}" if where else reason)
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a document and its place; None: absent."""

    value: object
    place: Place = ()

    def error(self, reason: str) -> FieldError:
        """An error at this place."""
        return FieldError(self.place, reason)

    def __bool__(self) -> bool:
        return self.value is not None

    def child(self, name: str) -> Field:
        """The field of a mapping, its key in any case; maps given in several spellings count together."""
        found = {key: value for key, value in self.mapping().items() if key.lower() == name and value is not None}
        if not found:
            return Field(None, (*self.place, name))
        if len(found) > 1 and all(isinstance(value, Mapping) for value in found.values()):
            merged = {key: inner for value in found.values() for key, inner in Field(value).mapping().items()}
            return Field(merged, (*self.place, name))
        key = name if name in found else next(iter(found))
        return Field(found[key], (*self.place, key))

    def mapping(self) -> Mapping[str, object]:
        """The value as a map; absent: empty."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise self._mistyped("a map")
        if wrong := next((key for key in self.value if not isinstance(key, str)), None):
            raise self.error(f"the key {wrong!r} is not text")
        return self.value

    def fields(self) -> dict[str, Field]:
        """The entries of a map whose keys keep their case."""
        return {self._sound(key): Field(value, (*self.place, key)) for key, value in self.mapping().items()}

    def items(self, *, or_one: bool = False) -> list[Field]:
        """The entries of a list; absent: none.

        Args:
            or_one: A single value stands for a list of one.
        """
        if self.value is None:
            return []
        if isinstance(self.value, Sequence) and not isinstance(self.value, str | bytes):
            return [Field(value, (*self.place, index)) for index, value in enumerate(self.value)]
        if or_one and not isinstance(self.value, Mapping):
            return [self]
        raise self._mistyped("a list")

    def text(self, default: str = "") -> str:
        """The value as text."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self._mistyped("text")
        return self._sound(self.value)

    def loose_text(self, default: str = "") -> str:
        """The value as text, also if it is a number (`1.0` is `1`, as in OSCAR's CLI) or a truth value."""
        match self.value:
            case bool():
                return "true" if self.value else "false"
            case float() if math.isfinite(self.value) and self.value.is_integer():
                return str(int(self.value))
            case int() | float():
                return str(self.value)
        return self.text(default)

    def integer(self, default: int, *, least: int = -_INT_LIMIT, most: int = _INT_LIMIT) -> int:
        """The value as a whole number within bounds."""
        if self.value is None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._mistyped("a whole number")
        if not math.isfinite(self.value) or self.value != int(self.value):
            raise self.error(f"{self.value} is not a whole number")
        if not least <= self.value <= most:
            raise self.error(
                f"must be between {least} and {most}" if most < _INT_LIMIT else f"must be at least {least}"
            )
        return int(self.value)

    def boolean(self, default: bool = False) -> bool:
        """The value as a truth value."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self._mistyped("true or false")
        return self.value

    def duration(self) -> timedelta | None:
        """The value as a duration: seconds, `30s`, `1h30m` or ISO 8601; None: absent or empty."""
        if self.value is None or self.value == "":
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            raise self._mistyped("a duration such as 30s")
        try:
            return parse_duration(self.value)
        except InvalidInputError as error:
            raise self.error(str(error)) from error

    def texts(self) -> tuple[str, ...]:
        """The value as texts; a single one stands for a list of one."""
        return tuple(item.text() for item in self.items(or_one=True))

    def loose_texts(self) -> dict[str, str]:
        """The value as a map from text to text; numbers and truth values become text, null becomes empty."""
        return {key: field.loose_text() for key, field in self.fields().items()}

    def _sound(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error("is not valid Unicode") from error
        return text

    def _mistyped(self, wanted: str) -> FieldError:
        return self.error(f"must be {wanted}, not {_kind(self.value)}")


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a map"
        case Sequence():
            return "a list"
    return type(value).__name__
