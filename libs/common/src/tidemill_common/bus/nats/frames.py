"""The frames of NATS' protocol that carry messages: written in one piece, read many at a time. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from nats import errors as library

log = structlog.get_logger()

Headers = Mapping[str, str]
Handler = Callable[["Message"], None]
"""Takes one message at once, in the read loop: must not wait."""

_VERSION: Final = b"NATS/1.0"
_NOT_IN_SUBJECTS: Final = re.compile(r"[ \t\r\n]")
_END: Final = b"\r\n"
_END_SIZE: Final = len(_END)
_STARTS: Final = (b"MSG ", b"HMSG ")
_WITH_HEADERS: Final = b"HMSG"


class Message:
    """One received message; its headers are parsed when somebody asks."""

    __slots__ = ("block", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, block: bytes = b"") -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.block = block
        """The headers as they came; empty: none."""

    @property
    def headers(self) -> dict[str, str]:
        """All headers, without the status line."""
        pairs = (line.partition(":") for line in self.block.decode("utf-8", "surrogateescape").split("\r\n")[1:])
        return {name.strip(): value.strip() for name, colon, value in pairs if colon}

    @property
    def status(self) -> tuple[str, str] | None:
        """(status, description) when this is a word of the server and not a Message."""
        if self.data or not self.block:
            return None
        status, _, description = self.block.partition(_END)[0].removeprefix(_VERSION).decode().strip().partition(" ")
        return (status, description.strip()) if status else None


def publish_frame(subject: str, reply: str, headers: Headers | None, body: bytes) -> bytes:
    """The frame that publishes one message.

    Raises:
        BadSubjectError: The subject cannot be one.
    """
    if not subject or _NOT_IN_SUBJECTS.search(subject):
        raise library.BadSubjectError
    if headers is None:
        return b"%b%d\r\n%b\r\n" % (f"PUB {subject} {reply} ".encode(), len(body), body)
    block = _block(headers)
    start = f"HPUB {subject} {reply} {len(block)} {len(block) + len(body)}\r\n".encode()
    return b"%b%b%b\r\n" % (start, block, body)


def _block(headers: Headers) -> bytes:
    lines = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _one_line(value: str) -> str:
    value = value.strip()
    return value if value.isprintable() else value.replace("\r", " ").replace("\n", " ")


class Frames:
    """Received bytes as messages: whole ones go to the handler of their subscription, the rest waits for more."""

    def __init__(self, handlers: Mapping[bytes, Handler]) -> None:
        self._handlers = handlers
        self.clear()

    def clear(self) -> None:
        """Forget what is kept: the connection is another."""
        self._kept = bytearray()
        self._least = 0
        """Bytes without which the first frame is not whole."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Hand over each whole message, and yield each whole line that is something else, in their order.

        Raises:
            ValueError: These are no frames.
        """
        kept = self._kept
        if kept:
            kept += data
            if len(kept) < self._least:
                return
            data = bytes(kept)
        at = self._least = 0
        while (end := data.find(_END, at)) >= 0:
            start = end + _END_SIZE
            if data.startswith(_STARTS, at):
                words = data[at:end].split()
                stop = start + int(words[-1])
                if stop + _END_SIZE > len(data):
                    self._least = stop + _END_SIZE - at
                    break
                self._hand_over(words, data, start, stop)
                at = stop + _END_SIZE
            else:
                line, at = data[at:start], start
                yield line
                if self._kept is not kept:
                    return  # cleared: what is left came from the connection before
        self._kept = bytearray(data[at:])

    def _hand_over(self, words: list[bytes], data: bytes, start: int, stop: int) -> None:
        handler = self._handlers.get(words[2])
        if handler is None:
            return  # it was under way when its subscription ended
        with_headers = words[0] == _WITH_HEADERS
        reply = words[3].decode() if len(words) == 5 + with_headers else ""
        body = start + int(words[-2]) if with_headers else start
        message = Message(words[1].decode(), reply, data[body:stop], data[start:body])
        try:
            handler(message)
        except Exception:
            log.exception("a message was not taken", subject=message.subject)
