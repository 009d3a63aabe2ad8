"""NATS' JWTs: signed statements of who an operator, an account or a user is, and what a user may do. Pure.

A server that trusts the operator believes accounts that it signed, and users that an account or one of its signing keys
signed. So identities are issued without asking the server, and hold while nobody else runs.
https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tidemill_common.bus.nats.identities import INBOX_TAG, Permissions, inbox_prefix
from tidemill_common.bus.nats.nkeys import Key
from tidemill_common.errors import InvalidInputError

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_UNLIMITED: Final = -1
_ACCOUNT_LIMITS: Final = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED),
    "wildcards": True,
}
_JETSTREAM_LIMITS: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED)
_USER_LIMITS: Final = dict.fromkeys(("subs", "data", "payload"), _UNLIMITED)

Claims = Mapping[str, Any]


def operator_token(operator: Key, *, name: str, system_account: str, now: datetime) -> str:
    """What a server's `operator` is."""
    nats = {"type": "operator", "system_account": system_account}
    return _signed(operator, {"sub": operator.public, "name": name, "nats": nats}, now)


def account_token(
    operator: Key, account: str, *, name: str, now: datetime, roles: Mapping[str, tuple[str, Permissions]] | None = None
) -> str:
    """What a server's `resolver_preload` has of an account. With roles it has JetStream without limits.

    Args:
        roles: Of each role the public key of who may issue it, and what it may do. Such a key issues nothing else.
    """
    limits: dict[str, Any] = dict(_ACCOUNT_LIMITS)
    keys = [
        {"kind": "user_scope", "key": key, "role": role, "template": {**_permissions(allowed), **_USER_LIMITS}}
        for role, (key, allowed) in (roles or {}).items()
    ]
    if roles is not None:
        limits |= _JETSTREAM_LIMITS
    nats = {"type": "account", "limits": limits, "signing_keys": keys}
    return _signed(operator, {"sub": account, "name": name, "nats": nats}, now)


def component_token(account: Key, user: str, *, name: str, allowed: Permissions, now: datetime) -> str:
    """An identity with rights of its own, signed by the account itself; it does not expire."""
    tags = _tags({INBOX_TAG: inbox_prefix(name)})
    nats = {"type": "user", "tags": tags, **_permissions(allowed), **_USER_LIMITS}
    return _signed(account, {"sub": user, "name": name, "nats": nats}, now)


def scoped_token(
    signer: Key, user: str, *, account: str, name: str, tags: Mapping[str, str], now: datetime, expires_at: datetime
) -> str:
    """An identity in the role of the key that signs it; the tags fill in the role's template."""
    nats = {"type": "user", "issuer_account": account, "tags": _tags({INBOX_TAG: inbox_prefix(name), **tags})}
    subject = {"sub": user, "name": name, "nats": nats, "exp": int(expires_at.timestamp())}
    return _signed(signer, subject, now)


def read_claims(token: str) -> Claims:
    """What a JWT says. Its signature is not looked at: that is the server's part.

    Raises:
        InvalidInputError: It is no JWT.
    """
    try:
        content = json.loads(_unbase64(token.split(".")[1]))
    except (IndexError, ValueError):
        raise InvalidInputError("not a JWT") from None
    if not isinstance(content, dict):
        raise InvalidInputError("not a JWT")
    return content


def _tags(values: Mapping[str, str]) -> list[str]:
    return [f"{tag}:{value}" for tag, value in values.items()]


def _permissions(allowed: Permissions) -> dict[str, Any]:
    publish = {"allow": list(allowed.publish), "deny": list(allowed.publish_denied)}
    return {
        "pub": {kind: subjects for kind, subjects in publish.items() if subjects},
        "sub": {"allow": list(allowed.subscribe)} if allowed.subscribe else {},
    }


def _signed(issuer: Key, claims: dict[str, Any], now: datetime) -> str:
    nats = {**claims["nats"], "version": 2}
    claims = {**claims, "iss": issuer.public, "iat": int(now.timestamp()), "nats": nats}
    claims["jti"] = _identifier(claims)
    content = f"{_base64(json.dumps(_HEADER).encode())}.{_base64(json.dumps(claims).encode())}"
    return f"{content}.{_base64(issuer.sign(content.encode()))}"


def _identifier(claims: Claims) -> str:
    digest = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=")


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
