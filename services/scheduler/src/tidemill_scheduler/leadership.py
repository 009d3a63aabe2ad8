"""Leader lease: one scheduler acts, the others wait, on one register with compare-and-set.

No two clocks are compared. A challenger takes over when the register's revision has not changed for the lease time by
its own clock. The leader stops acting `_MARGIN` before the lease time has passed since it *began* its last renewal,
which is always before any challenger could have begun to count.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from tidemill_common.bus import Register, Registers
from tidemill_common.errors import ConflictError, TransientError

log = structlog.get_logger()
REGISTER: Final = "leader.scheduler"
_MARGIN: Final = 0.5
"""Seconds, for an act that was under way when leadership ended."""


class LeaderLease:
    """This process's part in leadership.

    Args:
        holder: Name of this process, different from every other's.
        lease: How long the leader may be silent.
        renew: How often it says that it lives, and challengers look.
        on_change: Called whenever `is_held` may have changed.
    """

    def __init__(
        self,
        registers: Registers,
        *,
        holder: str,
        lease: timedelta,
        renew: timedelta,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registers = registers
        self.holder = holder
        self._lease = lease.total_seconds()
        self._renew = renew.total_seconds()
        self._on_change = on_change
        self._clock = clock
        self._revision: int | None = None
        """Of our own newest entry; None: we do not lead."""
        self._held_until = float("-inf")
        self._seen: tuple[int, float] | None = None
        """Revision of somebody else's entry, and since when we see it."""

    @property
    def is_held(self) -> bool:
        """Whether this process may act now."""
        return self._revision is not None and self._clock() < self._held_until

    async def run(self) -> None:
        """Take and keep the lease for as long as this runs."""
        while True:
            was_held = self._revision is not None
            await self.step()
            if was_held != (self._revision is not None):
                self._on_change()
            # challengers look twice as often, so that a takeover is quick
            await asyncio.sleep(self._renew if self._revision is not None else self._renew / 2)

    async def step(self) -> None:
        """Renew the lease, or try to take it over."""
        try:
            async with asyncio.timeout(self._lease / 2):
                if self._revision is not None:
                    await self._put(self._revision)
                else:
                    await self._challenge()
        except ConflictError:
            if self._revision is not None:
                log.warning("leadership lost")
            self._revision = None
        except (TransientError, TimeoutError) as error:
            self._give_up_if_late(error)

    async def release(self) -> None:
        """Let the next one take over at once."""
        if self._revision is None:
            return
        revision, self._revision = self._revision, None
        try:
            async with asyncio.timeout(self._lease / 2):
                await self._registers.put(REGISTER, _entry(""), revision=revision)
        except (ConflictError, TransientError, TimeoutError) as error:
            log.info("leadership not released, it runs out", error=str(error))

    async def _challenge(self) -> None:
        current = await self._registers.get(REGISTER)
        if current is None:
            await self._put(0)
        elif _holder(current) in ("", self.holder):  # released; or our own write whose answer got lost
            await self._put(current.revision)
        elif self._seen is None or self._seen[0] != current.revision:
            self._seen = (current.revision, self._clock())
        elif self._clock() - self._seen[1] >= self._lease:
            await self._put(current.revision)

    async def _put(self, revision: int) -> None:
        begun = self._clock()
        taken = self._revision is None
        self._revision = await self._registers.put(REGISTER, _entry(self.holder), revision=revision)
        self._held_until = begun + self._lease - _MARGIN
        self._seen = None
        if taken:
            log.info("leadership taken", holder=self.holder)

    def _give_up_if_late(self, error: BaseException) -> None:
        if self._revision is None:
            return
        log.warning("leadership not renewed", error=str(error) or type(error).__name__)
        if self._clock() >= self._held_until:
            self._revision = None


def _entry(holder: str) -> bytes:
    return json.dumps({"holder": holder}).encode()


def _holder(register: Register) -> str | None:
    try:
        return str(json.loads(register.value)["holder"])
    except (ValueError, KeyError, TypeError):
        return None
