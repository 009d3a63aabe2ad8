"""What the API server answers, in our errors; and what Workers are told of the bus."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ThrottledError,
    TidemillError,
    UnavailableError,
)
from tidemill_scheduler.identities import BusIdentity
from tidemill_scheduler.launchers.environment import CREDENTIALS_FILE
from tidemill_scheduler.launchers.kubernetes.api import (
    GoneError,
    KubernetesApi,
    _error_of,
    _event,
    _lines,
    open_api,
)
from tidemill_scheduler.launchers.kubernetes.bus_secrets import IssuedCredentials, credentials_environment
from tidemill_scheduler.launchers.kubernetes.opening import credentials_of, supervisor_environment
from tidemill_scheduler.settings import Settings


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, InvalidInputError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, GoneError),
        (422, InvalidInputError),
        (429, ThrottledError),
        (500, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_every_answer_has_an_error_with_the_servers_words(code: int, kind: type[TidemillError]) -> None:
    error = _error_of(code, "GET /x", {"message": "because"}, None)
    assert type(error) is kind
    assert str(error) == "GET /x: because"


def test_a_busy_server_says_when_to_come_back() -> None:
    error = _error_of(429, "GET /x", {}, "7")
    assert isinstance(error, ThrottledError)
    assert error.retry_after == timedelta(seconds=7)


def test_a_watch_that_is_too_old_ends_with_gone() -> None:
    with pytest.raises(GoneError):
        _event({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}, "/x")


async def test_lines_longer_than_a_chunk_come_whole() -> None:
    reader = aiohttp.StreamReader(_protocol(), 2**16, loop=asyncio.get_running_loop())
    for chunk in (b'{"a"', b':1}\n{"b":', b"2}\n\n", b'{"c":3}\n'):
        reader.feed_data(chunk)
        await asyncio.sleep(0)
    reader.feed_eof()
    assert [line async for line in _lines(reader)] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


class AnsweringApi(KubernetesApi):
    """Every answer has this content."""

    status = 200
    connection = None

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self.content = content

    async def _request(self, *_: object) -> Any:
        return self

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("broke", "raised"), [(aiohttp.SocketTimeoutError(), None), (aiohttp.ClientPayloadError("cut"), UnavailableError)]
)
async def test_a_silent_watch_ends_in_order_and_a_broken_one_does_not(
    broke: Exception, raised: type[Exception] | None
) -> None:
    reader = aiohttp.StreamReader(_protocol(), 2**16, loop=asyncio.get_running_loop())
    reader.feed_data(b'{"type": "BOOKMARK"}\n')
    events = AnsweringApi(reader).watch("/x", silence=timedelta(seconds=90))

    assert await anext(events) == {"type": "BOOKMARK"}
    reader.set_exception(broke)
    with pytest.raises(raised or StopAsyncIteration):
        await anext(events)


async def test_a_cluster_that_is_not_described_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no cluster to talk to"):
        async with open_api(tmp_path / "missing", None):
            pass


def test_workers_in_pods_get_no_path_of_this_machine_and_no_password(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "state_dir": tmp_path,
            "bus": {"url": "nats://here:1", "user": "worker", "password": "hidden"},
            "kubernetes": {"bus_url": "nats://there:1", "termination_grace": "PT40S"},
            "worker": {"environment": {"TIDEMILL_SUPERVISOR_GRACE": "PT1S"}},
        }
    )
    environment = supervisor_environment(settings)
    assert environment["TIDEMILL_SUPERVISOR_BUS__URL"] == "nats://there:1"
    assert environment["TIDEMILL_SUPERVISOR_BUS__USER"] == "worker"
    assert environment["TIDEMILL_SUPERVISOR_DRAIN_TIMEOUT"] == "PT30S"
    assert environment["TIDEMILL_SUPERVISOR_GRACE"] == "PT1S"
    assert not any(name.endswith(("_FILE", "SECRETS_DIR")) for name in environment)
    assert "hidden" not in "".join(environment.values())
    credentials = credentials_of(settings)
    assert credentials is not None
    assert credentials.issue(ServiceName("gray")) == ("hidden", None)
    assert list(credentials_environment(credentials).values()) == ["/run/tidemill/bus/bus.creds"]


def test_an_issued_identity_is_renewed_when_half_of_its_time_is_over() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    class Identities:
        lifetime = timedelta(hours=1)

        def creds_for(self, service: ServiceName) -> BusIdentity:
            return BusIdentity(text=f"creds of {service}", issued_at=now, expires_at=now + self.lifetime)

    credentials = IssuedCredentials(Identities())
    assert credentials.issue(ServiceName("gray")) == ("creds of gray", now + timedelta(minutes=30))
    assert credentials_environment(credentials) == {CREDENTIALS_FILE: "/run/tidemill/bus/bus.creds"}


def _protocol() -> aiohttp.base_protocol.BaseProtocol:
    return aiohttp.base_protocol.BaseProtocol(asyncio.get_running_loop())
