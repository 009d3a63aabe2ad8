"""Kubernetes quantities (`500m`, `0.2`, `256Mi`) as plain numbers."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from tidemill_common.errors import InvalidInputError

_QUANTITY: Final = re.compile(r"^\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|[kKMGTPE]i?|)\s*$")
_FACTOR: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    "K": Decimal(1000),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """The number that a Kubernetes quantity stands for.

    Raises:
        InvalidInputError: It is not a quantity.
    """
    match = _QUANTITY.match(text)
    if match is None or match[2] not in _FACTOR:
        raise InvalidInputError(f"not a quantity: {text!r} (examples: 0.5, 500m, 256Mi, 2Gi)")
    return Decimal(match[1]) * _FACTOR[match[2]]


def millicores(text: str) -> int:
    """CPU in thousandths of a core, rounded up."""
    return math.ceil(parse_quantity(text) * 1000)


def size_bytes(text: str) -> int:
    """Memory or disk in bytes, rounded up."""
    return math.ceil(parse_quantity(text))
