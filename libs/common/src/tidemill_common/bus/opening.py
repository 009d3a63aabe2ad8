"""Opens the bus that the settings name, by the scheme of its URL."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tidemill_common.bus import Bus
from tidemill_common.errors import UnsupportedError
from tidemill_common.settings import BusSettings


def open_bus(settings: BusSettings, *, name: str, gathers: bool = False) -> AbstractAsyncContextManager[Bus]:
    """The bus at `settings.url`: `nats://`, `tls://`, or `memory://` (in this process, for tests).

    Args:
        name: Shown by the server for this connection: the component.
        gathers: When it sends hundreds of times a second, what it sends within a millisecond goes together. Costs the
            busy that millisecond, and saves them and the server most of their system calls.

    Raises:
        UnsupportedError: No adapter has this scheme.
        UnavailableError, AccessDeniedError: On entering: the server does not answer, or refuses us.
    """
    scheme = settings.url.partition("://")[0]
    if scheme in {"nats", "tls"}:
        from tidemill_common.bus.nats import open_nats  # the other adapter's users need no client

        return open_nats(settings, name=name, gathers=gathers)
    if scheme == "memory":
        from tidemill_common.bus.memory import open_memory  # for tests alone

        return open_memory(settings)
    raise UnsupportedError(f"no bus for {settings.url!r}: nats://, tls:// and memory:// are known")
