"""What the scheduler tells of exposed Services, in memory: a request needs no look at the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from tidemill_common.bus import Live, Registers
from tidemill_common.contracts.exposed import STATES, ExposedState, state_register
from tidemill_common.errors import InvalidMessageError, TransientError

log = structlog.get_logger(__name__)
_FRESH_SECONDS: Final = 10.0
"""Read anew after this, should a message be lost."""


@dataclass(frozen=True, slots=True)
class _Known:
    state: ExposedState | None
    read_at: float


class ExposedStates:
    """The newest state of each exposed Service that was asked for."""

    def __init__(self, registers: Registers, live: Live, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registers = registers
        self._live = live
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._changed = asyncio.Event()

    async def get(self, name: str, *, fresh: bool = False) -> ExposedState | None:
        """The state; None: the scheduler has told nothing of it. A bus that does not answer leaves what was known.

        Args:
            fresh: Look at the bus, because what is known seems to be wrong.
        """
        known = self._known.get(name)
        if known is not None and not fresh and self._clock() - known.read_at < _FRESH_SECONDS:
            return known.state
        try:
            register = await self._registers.get(state_register(name))
        except TransientError as error:
            log.warning("state of an exposed service not read", service=name, error=str(error))
            return known.state if known is not None else None
        told = self._known.get(name)
        if told is not None and told is not known:  # while the bus answered: what it answers may be older
            return told.state
        return self._learn(name, register.value if register is not None else b"")

    async def wait_for(self, name: str, condition: Callable[[ExposedState], bool], *, timeout: float) -> None:
        """Return when the state is so, at the latest after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while (state := await self.get(name)) is None or not condition(state):
                    await self._changed.wait()
        except TimeoutError:
            await self.get(name, fresh=True)

    async def run(self) -> None:
        """Listen to changes, until cancelled."""
        async with self._live.subscribe(STATES) as messages:
            async for subject, body in messages:
                self._learn(subject.rpartition(".")[2], body)

    def _learn(self, name: str, body: bytes) -> ExposedState | None:
        state = None
        if body:
            try:
                state = ExposedState.decode(body)
            except InvalidMessageError as error:
                log.warning("state of an exposed service cannot be read", service=name, error=str(error))
        self._known[name] = _Known(state, self._clock())
        self._changed.set()
        self._changed = asyncio.Event()
        return state
