"""Who may ask an exposed Service, and what the proxy changes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pytest

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Expose, Service
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.exposed.access import Doorkeeper, Proof, basic
from tidemill_gateway.exposed.forwarding import named, request_headers, response_headers, target

TOKEN = "ab" * 32


def service(**expose: Any) -> Service:
    """One named web-app."""
    block = Expose(**{"api_port": (80,), **expose})
    return Service(name=ServiceName("web-app"), image="i", script="s", expose=block)


@dataclass
class OneService:
    """Knows web-app."""

    def service_of_token(self, name: str, token: str) -> Service | None:
        """By its token."""
        return service() if (name, token) == ("web-app", TOKEN) else None

    def get_cached(self, name: str) -> Service | None:
        """By its name."""
        return service() if name == "web-app" else None


DOOR = Doorkeeper(OneService(), AdminCredentials(username="oscar", password="pw"))


def in_basic(name: str, password: str) -> str:
    """A Basic header."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_without_set_auth_everybody_may() -> None:
    assert DOOR.check(service(), Proof()).is_allowed


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        (in_basic("web-app", TOKEN), True),
        (in_basic("web-app", "no"), False),
        (in_basic("other", TOKEN), False),
        (in_basic("oscar", "pw"), False),
        (f"Bearer {TOKEN}", False),
        ("Basic %%%", False),
        (None, False),
    ],
)
def test_basic_takes_the_service_and_its_token(authorization: str | None, *, allowed: bool) -> None:
    access = DOOR.check(service(set_auth=True), Proof(authorization=authorization))
    assert access.is_allowed is allowed
    assert (access.challenge is None) is allowed


@pytest.mark.parametrize(
    ("proof", "allowed", "sets_cookie"),
    [
        (Proof(), False, False),
        (Proof(authorization=f"Bearer {TOKEN}"), True, True),
        (Proof(authorization="Bearer " + "00" * 32), False, False),
        (Proof(authorization=in_basic("oscar", "pw")), True, False),
        (Proof(query=f"a=1&token={TOKEN}"), True, True),
        (Proof(forwarded_uri=f"/system/services/web-app/exposed/x?token={TOKEN}"), True, True),
        (Proof(cookie=f"other=1; oscar_service_web_app_auth={TOKEN}"), True, False),
        (Proof(cookie="oscar_service_web_app_auth=x"), False, False),
    ],
)
def test_forward_takes_any_of_oscars_proofs(proof: Proof, *, allowed: bool, sets_cookie: bool) -> None:
    access = DOOR.check(service(set_auth=True, auth_type="forward"), proof)
    assert (access.is_allowed, access.set_cookie is not None) == (allowed, sets_cookie)


def test_the_cookie_is_for_this_service_alone() -> None:
    access = DOOR.check_forward("web-app", Proof(query=f"token={TOKEN}", is_secure=True))
    assert access.set_cookie == (
        f"oscar_service_web_app_auth={TOKEN}; Path=/system/services/web-app/exposed; HttpOnly; SameSite=Lax; Secure"
    )


def test_a_password_may_have_colons() -> None:
    assert basic(in_basic("a", "b:c")) == ("a", "b:c")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/system/services/a/exposed", ("a", b"/")),
        (b"/system/services/a/exposed/", ("a", b"/")),
        (b"/system/services/a/exposed/x//%2Fy", ("a", b"/x//%2Fy")),
        (b"/system/services/a/exposedx", None),
        (b"/system/services/a/deployment", None),
        (b"/system/services/a/b/exposed", None),
    ],
)
def test_paths_of_exposed_services_are_told_from_others(path: bytes, found: tuple[str, bytes] | None) -> None:
    assert named(path) == found


def test_the_prefix_is_stripped_unless_the_server_wants_it() -> None:
    assert target(service(), b"/a%20b", b"x=%2F") == "/a%20b?x=%2F"
    assert target(service(rewrite_target=True), b"/", b"") == "/system/services/web-app/exposed/"


def scope(*headers: tuple[bytes, bytes], scheme: str = "http") -> dict[str, Any]:
    """A request from 10.0.0.9."""
    return {"headers": list(headers), "client": ("10.0.0.9", 1), "scheme": scheme}


def test_headers_of_one_connection_stay_behind() -> None:
    given = scope(
        (b"host", b"h"), (b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"te", b"trailers"), (b"x-own", b"2")
    )
    found = dict(request_headers(given, service()))
    assert found == {
        "host": "h",
        "x-own": "2",
        "x-forwarded-for": "10.0.0.9",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "h",
        "x-forwarded-prefix": "/system/services/web-app/exposed",
    }


def test_a_proxy_in_front_is_believed_and_named() -> None:
    given = scope(
        (b"host", b"inner"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"outer"),
    )
    found = dict(request_headers(given, service(rewrite_target=True)))
    assert found["x-forwarded-for"] == "1.2.3.4, 10.0.0.9"
    assert (found["x-forwarded-proto"], found["x-forwarded-host"]) == ("https", "outer")
    assert "x-forwarded-prefix" not in found


def test_answers_may_be_read_from_other_origins_unless_the_server_decides() -> None:
    plain = response_headers([(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Connection", b"close")])
    assert plain == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"access-control-allow-origin", b"*")]
    own = response_headers([(b"Access-Control-Allow-Origin", b"https://a")])
    assert own == [(b"access-control-allow-origin", b"https://a")]
