"""Who may ask an exposed Service (OSCAR contract 1.6 and 8). Pure but for the look at tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tidemill_common.contracts.service import Service
from tidemill_gateway.auth import AdminCredentials, bearer
from tidemill_gateway.ports import Services

FORWARD: Final = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a request brings to show who asks."""

    authorization: str | None = None
    query: str = ""
    cookie: str = ""
    forwarded_uri: str = ""
    is_secure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Whether it may, and what the answer carries."""

    is_allowed: bool
    set_cookie: str | None = None
    challenge: str | None = None


REFUSED: Final = Access(is_allowed=False)
_OPEN: Final = Access(is_allowed=True)


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Decides."""

    services: Services
    admin: AdminCredentials

    def check(self, service: Service, proof: Proof) -> Access:
        """Whether a request to the exposed Service may pass."""
        if service.expose is None or not service.expose.set_auth:
            return _OPEN
        if service.expose.auth_type.lower() == FORWARD:
            return self.check_forward(service.name, proof)
        name, password = basic(proof.authorization)
        if name == service.name and self._is_token(service.name, password):
            return _OPEN
        return Access(is_allowed=False, challenge=f'Basic realm="{service.name}"')

    def check_forward(self, name: str, proof: Proof) -> Access:
        """By any proof of contract 1.6; a valid token is kept in a cookie."""
        if self.admin.accept(proof.authorization):
            return _OPEN
        given = (bearer(proof.authorization), _asked(proof.query), _asked(urlsplit(proof.forwarded_uri).query))
        for token in given:
            if token and self._is_token(name, token):
                return Access(is_allowed=True, set_cookie=_cookie(name, token, is_secure=proof.is_secure))
        if self._is_token(name, _cookie_value(proof.cookie, cookie_name(name))):
            return _OPEN
        return REFUSED

    def _is_token(self, name: str, token: str) -> bool:
        return bool(token) and self.services.service_of_token(name, token) is not None


def proof_of(headers: Mapping[bytes, bytes], query: str, scheme: str) -> Proof:
    """From a request."""

    def text(name: bytes) -> str:
        return headers.get(name, b"").decode("latin-1")

    return Proof(
        authorization=text(b"authorization") or None,
        query=query,
        cookie=text(b"cookie"),
        forwarded_uri=text(b"x-forwarded-uri"),
        is_secure=(text(b"x-forwarded-proto") or scheme) in ("https", "wss"),
    )


def basic(authorization: str | None) -> tuple[str, str]:
    """Name and password of a Basic header; empty: there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return name, password


def cookie_name(service: str) -> str:
    """Of the cookie that keeps a token."""
    return f"oscar_service_{service.replace('-', '_')}_auth"


def _cookie(service: str, token: str, *, is_secure: bool) -> str:
    secure = "; Secure" if is_secure else ""
    path = f"/system/services/{service}/exposed"
    return f"{cookie_name(service)}={token}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def _asked(query: str) -> str:
    return parse_qs(query).get("token", [""])[-1] if "token=" in query else ""


def _cookie_value(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""
