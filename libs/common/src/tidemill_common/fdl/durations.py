"""Durations as users write them: seconds, `30s`, `1h30m`, `500ms`, or ISO 8601 (`PT20S`)."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from tidemill_common.errors import InvalidInputError

_NUMBER: Final = r"\d{1,15}(?:\.\d{1,12})?"
_PLAIN: Final = re.compile(rf"^{_NUMBER}$", re.ASCII)
_UNITS: Final = re.compile(
    rf"^(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?$", re.ASCII
)
_ISO: Final = re.compile(
    rf"^P(?:({_NUMBER})W)?(?:({_NUMBER})D)?(?:T(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?$", re.ASCII
)
_UNIT_MICROSECONDS: Final = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000)
_ISO_MICROSECONDS: Final = (7 * 86_400_000_000, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000)


def parse_duration(value: float | str) -> timedelta:
    """The duration that a number of seconds or a text stands for, to the microsecond; never negative.

    Raises:
        InvalidInputError: It is neither.
    """
    text = f"{value:.6f}" if isinstance(value, float) else str(value).strip()
    try:
        return timedelta(microseconds=_microseconds(text))
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(f"not a duration: {text!r} (examples: 30, 30s, 5m, 1h30m, PT20S)") from error


def duration_text(duration: timedelta) -> str:
    """A duration as `<seconds>s`, exactly."""
    seconds, micros = divmod(duration // timedelta(microseconds=1), 1_000_000)
    return f"{seconds}.{micros:06}".rstrip("0").rstrip(".") + "s"


def _microseconds(text: str) -> int:
    if _PLAIN.match(text):
        return int(Decimal(text) * 1_000_000)
    for pattern, factors in ((_UNITS, _UNIT_MICROSECONDS), (_ISO, _ISO_MICROSECONDS)):
        match = pattern.match(text.upper() if pattern is _ISO else text.lower())
        if match and any(match.groups()):
            return int(
                sum(Decimal(number or 0) * factor for number, factor in zip(match.groups(), factors, strict=True))
            )
    raise ValueError(text)
