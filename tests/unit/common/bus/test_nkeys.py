"""NATS' text form of keys, against the values of its own documentation, and what signatures promise."""

from __future__ import annotations

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tidemill_common.bus.nats.nkeys import Key, Kind
from tidemill_common.errors import InvalidInputError

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
"""The example of https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth"""
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_documented_seed_has_its_documented_public_key() -> None:
    key = Key.of_seed(SEED)
    assert (key.kind, key.public, key.seed) == (Kind.USER, PUBLIC, SEED)


@pytest.mark.parametrize(("kind", "letter"), [(Kind.OPERATOR, "O"), (Kind.ACCOUNT, "A"), (Kind.USER, "U")])
def test_the_text_tells_what_a_key_is_for(kind: Kind, letter: str) -> None:
    key = Key.generate(kind)
    assert (key.public[0], key.seed[:2]) == (letter, f"S{letter}")
    assert Key.of_seed(key.seed).public == key.public


def test_what_was_signed_cannot_be_changed() -> None:
    key = Key.generate(Kind.USER)
    verify = VerifyKey(_public_bytes(key))
    verify.verify(b"said", key.sign(b"said"))
    with pytest.raises(BadSignatureError):
        verify.verify(b"sait", key.sign(b"said"))


@pytest.mark.parametrize("text", ["", "?!", PUBLIC, SEED[:-1], SEED.replace("CSSL", "CSSM"), "S" * 58])
def test_what_is_no_seed_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        Key.of_seed(text)
    assert not text or text not in str(error.value)


def _public_bytes(key: Key) -> bytes:
    import base64

    return base64.b32decode(key.public)[1:33]
