"""What a proxy changes in requests and answers: paths, hop-by-hop headers, `X-Forwarded-*`. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Final

from starlette.types import Scope

from tidemill_common.contracts.service import Service

RawHeaders = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1"""
_OURS: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix", b"expect")
)
"""`Expect`: uvicorn has answered it."""
_PATH: Final = re.compile(rb"/system/services/([^/?]+)/exposed(/.*)?", re.DOTALL)


def named(raw_path: bytes) -> tuple[str, bytes] | None:
    """(Service, path behind its public one); None: it is no path of an exposed Service."""
    found = _PATH.fullmatch(raw_path)
    return None if found is None else (found[1].decode("latin-1"), found[2] or b"/")


def target(service: Service, rest: bytes, query: bytes) -> str:
    """Path and query that the instance sees; escapes stay as the client wrote them."""
    prefix = f"/system/services/{service.name}/exposed" if service.expose and service.expose.rewrite_target else ""
    asked = f"?{query.decode('latin-1')}" if query else ""
    return f"{prefix}{rest.decode('latin-1')}{asked}"


def request_headers(scope: Scope, service: Service, *, drop: Collection[bytes] = ()) -> list[tuple[str, str]]:
    """For the instance: what the client sent, without what was meant for us, and with where it came from."""
    headers: RawHeaders = scope["headers"]
    kept = [(name, value) for name, value in end_to_end(headers) if name not in _OURS and name not in drop]
    return [(name.decode("latin-1"), _text(value)) for name, value in [*kept, *_forwarded(scope, service)]]


def response_headers(headers: Iterable[tuple[bytes, bytes]], *, drop: Collection[bytes] = ()) -> RawHeaders:
    """For the client; pages of other origins may read the answer, unless the server itself says who may."""
    kept = [(name.lower(), value) for name, value in headers]
    kept = [(name, value) for name, value in end_to_end(kept) if name not in drop]
    if not any(name == b"access-control-allow-origin" for name, _ in kept):
        kept.append((b"access-control-allow-origin", b"*"))
    return kept


def end_to_end(headers: RawHeaders) -> RawHeaders:
    """Without those for one connection, whose names `Connection` may tell."""
    listed = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in listed]


def _forwarded(scope: Scope, service: Service) -> RawHeaders:
    given: dict[bytes, bytes] = dict(scope["headers"])
    client: tuple[Any, ...] = scope.get("client") or ()
    chain = [part for part in (given.get(b"x-forwarded-for", b""), str(client[0]).encode() if client else b"") if part]
    scheme: str = {"ws": "http", "wss": "https"}.get(scope["scheme"], "") or scope["scheme"]
    found: RawHeaders = [
        (b"x-forwarded-for", b", ".join(chain)),
        (b"x-forwarded-proto", given.get(b"x-forwarded-proto") or scheme.encode()),
        (b"x-forwarded-host", given.get(b"x-forwarded-host") or given.get(b"host", b"")),
    ]
    if service.expose is not None and not service.expose.rewrite_target:
        found.append((b"x-forwarded-prefix", f"/system/services/{service.name}/exposed".encode()))
    return [(name, value) for name, value in found if value]


def _text(value: bytes) -> str:
    """aiohttp writes UTF-8, so that is what it must have been read as."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
