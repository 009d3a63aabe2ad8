"""Registers in memory."""

from __future__ import annotations

from itertools import count

from tidemill_common.bus import Register
from tidemill_common.bus.memory.clock import Clock
from tidemill_common.errors import ConflictError


class MemoryRegisters:
    """Small named values with compare-and-set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, Register] = {}
        self._revisions = count(1)

    async def get(self, name: str) -> Register | None:
        """The value now; None: there is none."""
        return self._values.get(name)

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        """Set it; see `Registers.put`."""
        current = self._values.get(name)
        has = 0 if current is None else current.revision
        if revision is not None and revision != has:
            raise ConflictError(f"{name}: has revision {has}, not {revision}")
        register = Register(value=value, revision=next(self._revisions), time=self._clock.now())
        self._values[name] = register
        return register.revision

    async def delete(self, name: str) -> None:
        """Forget it; success when it was not there."""
        self._values.pop(name, None)
