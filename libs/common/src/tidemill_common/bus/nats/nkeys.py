"""NATS' keys ("nkeys"): Ed25519 key pairs whose text form tells what they are for, and notices a typing error.

A public key is base32 of a kind's byte, the key and a checksum, so it begins with the kind's letter (`U…` is a user). A
seed is the same with two bytes for the kind, and begins with `S` and that letter.
https://github.com/nats-io/nkeys
"""

from __future__ import annotations

import base64
import binascii
from enum import IntEnum
from typing import Final, Self

from nacl.signing import SigningKey

from tidemill_common.errors import InvalidInputError

_SEED: Final = 18 << 3
"""Prefix of seeds: `S`."""
_KEY_SIZE: Final = 32
_CHECKSUM_SIZE: Final = 2


class Kind(IntEnum):
    """What a key stands for; its value is the first byte of the text form: five bits for the letter, three for none."""

    ACCOUNT = 0 << 3
    OPERATOR = 14 << 3
    USER = 20 << 3


class Key:
    """One key pair."""

    def __init__(self, kind: Kind, secret: bytes) -> None:
        self._kind = kind
        self._key = SigningKey(secret)

    @classmethod
    def generate(cls, kind: Kind) -> Self:
        """A new one, from the system's randomness."""
        return cls(kind, bytes(SigningKey.generate()))

    @classmethod
    def of_seed(cls, seed: str) -> Self:
        """The key pair of a seed.

        Raises:
            InvalidInputError: It is none; the text is not repeated.
        """
        raw = _decoded(seed)
        kind = (raw[0] & 0b111) << 5 | raw[1] >> 3
        if raw[0] & 0b11111000 != _SEED or len(raw) != 2 + _KEY_SIZE or kind not in list(Kind):
            raise InvalidInputError("not a seed of a NATS key")
        return cls(Kind(kind), raw[2:])

    @property
    def kind(self) -> Kind:
        """What it is for."""
        return self._kind

    @property
    def seed(self) -> str:
        """The secret, as text."""
        return _encoded(bytes((_SEED | self._kind >> 5, (self._kind & 0b11111) << 3)) + bytes(self._key))

    @property
    def public(self) -> str:
        """The public key, as text: the identity."""
        return _encoded(bytes((self._kind,)) + bytes(self._key.verify_key))

    def sign(self, content: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return bytes(self._key.sign(content).signature)


def _encoded(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(_CHECKSUM_SIZE, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise InvalidInputError("not the text of a NATS key") from None
    content, checksum = raw[:-_CHECKSUM_SIZE], raw[-_CHECKSUM_SIZE:]
    if len(content) <= _KEY_SIZE or binascii.crc_hqx(content, 0).to_bytes(_CHECKSUM_SIZE, "little") != checksum:
        raise InvalidInputError("not the text of a NATS key: its checksum is wrong")
    return content
