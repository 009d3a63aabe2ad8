"""What the bus needs of nats-py's inner names is there, in the version that is fixed."""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from nats import errors as library
from nats.aio.client import Client
from nats.protocol.parser import Parser

from tidemill_common.bus.nats.direct import DirectClient
from tidemill_common.bus.nats.frames import Message

REQUIREMENTS = Path(__file__).parents[4] / "requirements" / "runtime.in"
ATTRIBUTES = (
    "_flush_queue",
    "_max_pending_size",
    "_pending",
    "_pending_data_size",
    "_ps",
    "_sid",
    "_status",
    "_transport",
)
METHODS = {
    "_flush_pending": ["self", "force_flush"],
    "_flusher": ["self"],
    "_process_connect_init": ["self"],
    "_process_err": ["self", "err_msg"],
    "_process_op_err": ["self", "e"],
    "_read_loop": ["self"],
    "_send_unsubscribe": ["self", "sid", "limit"],
}


def test_the_version_of_nats_py_is_fixed() -> None:
    found = re.search(r"^nats-py==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == version("nats-py")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_nats_py_still_has_the_attribute(name: str) -> None:
    assert hasattr(Client(), name)


@pytest.mark.parametrize("name", METHODS)
def test_nats_py_still_has_the_method(name: str) -> None:
    method = getattr(Client, name)
    assert inspect.iscoroutinefunction(method)
    assert list(inspect.signature(method).parameters) == METHODS[name]


def test_the_read_loop_still_feeds_the_parser() -> None:
    assert "await self._ps.parse(" in inspect.getsource(Client._read_loop)
    assert list(inspect.signature(Parser.parse).parameters) == ["self", "data"]


def test_the_flusher_still_writes_what_is_pending_when_woken() -> None:
    source = inspect.getsource(Client._flusher)
    assert "await self._flush_queue.get()" in source
    assert "writelines(self._pending" in source


class _Connected(DirectClient):
    """As if a server were there."""

    def __init__(self, *, gathers: bool = False) -> None:
        super().__init__(gathers=gathers)
        self._status = Client.CONNECTED
        self._flush_queue = asyncio.Queue()


async def test_all_of_one_turn_leaves_as_one_piece_with_one_flush() -> None:
    client = _Connected()
    client.send("a", "", None, b"1")
    client.send("b", "r", None, b"2")
    assert client._flush_queue is not None
    assert client._flush_queue.empty()
    await asyncio.sleep(0)
    assert client._flush_queue.qsize() == 1
    assert client._pending == [b"PUB a  1\r\n1\r\nPUB b r 1\r\n2\r\n"]
    assert client._pending_data_size == len(client._pending[0])
    client.send("c", "", None, b"3")
    await asyncio.sleep(0)
    assert client._pending == [b"PUB a  1\r\n1\r\nPUB b r 1\r\n2\r\nPUB c  1\r\n3\r\n"]


async def left_at_once(client: DirectClient) -> bool:
    """Whether one message leaves with this turn of the loop."""
    assert client._flush_queue is not None
    client.send("a", "", None, b"1")
    await asyncio.sleep(0)
    return not client._flush_queue.empty() and client._flush_queue.get_nowait() is not None


async def test_one_that_gathers_waits_only_when_it_sends_often(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0
    monkeypatch.setattr("tidemill_common.bus.nats.direct.time", SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: seconds)
    client = _Connected(gathers=True)
    assert client._flush_queue is not None
    assert all([await left_at_once(client) for _ in range(8)])
    assert not await left_at_once(client)
    assert not await left_at_once(client)
    seconds = 0.001
    await client._flush_queue.get()
    assert client._pending == [b"PUB a  1\r\n1\r\n" * 10]
    seconds = 1.0
    assert await left_at_once(client)


async def test_one_that_does_not_gather_never_waits() -> None:
    client = _Connected()
    assert all([await left_at_once(client) for _ in range(20)])


async def test_what_is_larger_than_the_server_takes_is_refused() -> None:
    with pytest.raises(library.MaxPayloadError):
        _Connected().send("a", "", None, b"." * (1024 * 1024 + 1))


async def test_a_closed_connection_takes_nothing() -> None:
    client = _Connected()
    client._status = Client.CLOSED
    with pytest.raises(library.ConnectionClosedError):
        client.send("a", "", None, b"")


async def test_a_broken_connection_keeps_no_more_than_its_buffer() -> None:
    client = _Connected()
    client._status = Client.RECONNECTING
    client._max_pending_size = 20
    client.send("a", "", None, b"1")
    with pytest.raises(library.OutboundBufferLimitError):
        client.send("a", "", None, b"2")


async def test_the_parser_hands_messages_over_and_leaves_the_rest_to_nats_py() -> None:
    client, taken = _Connected(), list[Message]()
    client._handlers[b"1"] = taken.append
    with pytest.raises(library.ProtocolError):
        await client._ps.parse(b"MSG a 1 1\r\nx\r\n+OK\r\nMSG b 1 1\r\ny\r\nNONSENSE\r\n")
    assert [(message.subject, message.data) for message in taken] == [("a", b"x"), ("b", b"y")]
