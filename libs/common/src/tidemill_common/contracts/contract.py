"""What every message is: an immutable value that ignores what it does not know, bound to an address."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Generic, NewType, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tidemill_common.errors import InvalidMessageError

ServiceName = NewType("ServiceName", str)
EventId = NewType("EventId", str)
InvocationId = NewType("InvocationId", str)
WorkerId = NewType("WorkerId", str)


def derive_id(*parts: str) -> str:
    """32 hexadecimal characters that are equal for equal parts, in this order, on every machine and for ever."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.hexdigest()


class Contract(BaseModel):
    """Base of all messages: frozen; unknown fields are ignored, so an old reader survives a new writer."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    def encode(self) -> bytes:
        """The body as it travels: JSON in UTF-8, without fields that are None or were not set."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True, exclude_defaults=True)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Parse a body.

        Raises:
            InvalidMessageError: It is not JSON, or breaks the contract; says where.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise InvalidMessageError(f"{cls.__name__}: {where}: {first['msg']}") from error


M = TypeVar("M", bound=Contract)

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")


def subject_token(value: str) -> str:
    """`value` if it can stand in a subject, else a derived id of it (so any bucket or provider name has a token)."""
    return value if _TOKEN.fullmatch(value) else f"h_{derive_id(value)}"


@dataclass(frozen=True, slots=True)
class Subject(Generic[M]):
    """An address bound to its contract: `<entity>.v<N>.<past participle>.{key}`."""

    pattern: str
    contract: type[M]

    def at(self, key: str) -> str:
        """The subject for one key (a Service, a bucket)."""
        return self.pattern.replace("{key}", subject_token(key))

    @property
    def wildcard(self) -> str:
        """Matches the subject for every key."""
        return self.pattern.replace("{key}", "*")
