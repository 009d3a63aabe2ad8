"""Opaque cursors: where a page of a list that is ordered by (instant, id), newest first, ended."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime

from tidemill_common.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last entry of a page."""

    at: datetime
    id: str

    def encode(self) -> str:
        """As clients get it; only to be handed back."""
        return base64.urlsafe_b64encode(f"{self.at.isoformat()} {self.id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """What a client handed back.

        Raises:
            InvalidInputError: It was not ours.
        """
        try:
            padded = text + "=" * (-len(text) % 4)
            instant, _, identity = base64.urlsafe_b64decode(padded).decode().partition(" ")
            at = datetime.fromisoformat(instant)
        except (ValueError, binascii.Error) as error:
            raise InvalidInputError(f"cursor: {text!r} is not one of ours") from error
        if at.tzinfo is None:
            raise InvalidInputError(f"cursor: {text!r} is not one of ours")
        return cls(at, identity)
