"""Frames of NATS' protocol: written as the protocol says, read whatever the pieces they come in."""

from __future__ import annotations

import pytest
from nats import errors as library

from tidemill_common.bus.nats.frames import Frames, Message, publish_frame

HEADERS = b"NATS/1.0\r\nNats-Msg-Id: m 1\r\nOther:x\r\n\r\n"
STREAM = b"".join(
    (
        b"MSG in.1 7 5\r\nhello\r\n",
        b"PING\r\n",
        b"MSG in.2 7 back.1 8\r\nMSG a 7 \r\n",
        b"HMSG in.3 7 back.2 %d %d\r\n%bbody\r\n" % (len(HEADERS), len(HEADERS) + 4, HEADERS),
        b"MSG other 8 2\r\nno\r\n",
        b"HMSG in.4 7 %d %d\r\n%b\r\n" % (len(HEADERS), len(HEADERS), HEADERS),
        b"-ERR 'no'\r\n",
        b"MSG in.5 7 0\r\n\r\n",
    )
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 64, len(STREAM)])
def test_messages_are_whole_and_in_order_however_the_bytes_come(size: int) -> None:
    taken: list[Message] = []
    frames = Frames({b"7": taken.append})
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    others = [line for piece in pieces for line in frames.feed(piece)]
    assert others == [b"PING\r\n", b"-ERR 'no'\r\n"]
    assert [(message.subject, message.reply, message.data) for message in taken] == [
        ("in.1", "", b"hello"),
        ("in.2", "back.1", b"MSG a 7 "),
        ("in.3", "back.2", b"body"),
        ("in.4", "", b""),
        ("in.5", "", b""),
    ]
    assert [message.headers for message in taken[2:4]] == [{"Nats-Msg-Id": "m 1", "Other": "x"}] * 2


def test_a_handler_that_fails_does_not_stop_the_next_message() -> None:
    taken: list[bytes] = []

    def fail_first(message: Message) -> None:
        taken.append(message.data)
        if len(taken) == 1:
            raise RuntimeError("first")

    list(Frames({b"1": fail_first}).feed(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n"))
    assert taken == [b"x", b"y"]


def test_nothing_of_one_connection_reaches_the_next() -> None:
    taken: list[Message] = []
    frames = Frames({b"1": taken.append})
    for _ in frames.feed(b"+OK\r\nMSG a 1 1\r\nx\r\nMSG a 1 9\r\nhal"):
        frames.clear()
    list(frames.feed(b"MSG a 1 1\r\ny\r\n"))
    assert [message.data for message in taken] == [b"y"]


@pytest.mark.parametrize("line", [b"MSG a 1 x\r\n", b"MSG \r\n", b"HMSG a 1 x 3\r\nabc\r\n"])
def test_what_is_no_frame_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        list(Frames({b"1": lambda _: None}).feed(line))


def test_a_frame_with_headers_counts_both_lengths() -> None:
    frame = publish_frame("a.b", "r", {"Nats-Msg-Id": " é\r\nX: 1 "}, b"body")
    block = "NATS/1.0\r\nNats-Msg-Id: é  X: 1\r\n\r\n".encode()
    assert frame == b"HPUB a.b r %d %d\r\n%bbody\r\n" % (len(block), len(block) + 4, block)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPING", "a\tb"])
def test_a_subject_cannot_carry_a_second_command(subject: str) -> None:
    with pytest.raises(library.BadSubjectError):
        publish_frame(subject, "", None, b"")


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"NATS/1.0 503\r\n\r\n", ("503", "")),
        (b"NATS/1.0 404 No Messages\r\nNats-Pending-Messages: 3\r\n\r\n", ("404", "No Messages")),
        (b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n", None),
        (b"", None),
    ],
)
def test_a_word_of_the_server_has_a_status(block: bytes, status: tuple[str, str] | None) -> None:
    assert Message("a", "", b"", block).status == status
