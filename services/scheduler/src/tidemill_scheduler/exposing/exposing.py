"""Brings about what definitions and wishes say, again and again, and tells what became of it. Only while we lead.

Level-triggered: a round compares everything that is wanted with everything that is there, so it does not matter which
change was missed, or what an earlier scheduler process had begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from tidemill_common.bus import Live, Registers
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import (
    LOGS,
    WISHES,
    ExposedState,
    LogsAnswered,
    LogsAsked,
    Wish,
    state_register,
    state_subject,
    wish_register,
)
from tidemill_common.contracts.service import Service
from tidemill_common.errors import InvalidMessageError, TidemillError, TransientError
from tidemill_scheduler.domain.snapshot import Needs
from tidemill_scheduler.exposing.domain import Exposure, Observation, state_of
from tidemill_scheduler.exposing.ports import Exposer

log = structlog.get_logger()
_INTERVAL_SECONDS: Final = 5.0
"""A round at least this often, should a wake-up be lost."""
_REREAD_SECONDS: Final = 15.0
"""Wishes are read anew this often, should a message be lost."""
_MIN_GAP_SECONDS: Final = 0.05


class Definitions(Protocol):
    """The Services, as the scheduler's catalogue knows them."""

    @property
    def definitions(self) -> Mapping[ServiceName, Service]: ...

    @property
    def services(self) -> Mapping[ServiceName, Needs]: ...


class Leader(Protocol):
    """Whether this process may act."""

    @property
    def is_held(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Wished:
    wish: Wish
    revision: int


class Exposing:
    """Keeps exposed Services running."""

    def __init__(
        self,
        *,
        exposer: Exposer,
        definitions: Definitions,
        leader: Leader,
        registers: Registers,
        live: Live,
        woken: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exposer = exposer
        self._definitions = definitions
        self._leader = leader
        self._registers = registers
        self._live = live
        self._woken = woken or asyncio.Event()
        self._clock = clock
        self._leads = False
        self._wishes: dict[ServiceName, _Wished] = {}
        self._wishes_heard = 0
        """How many were told, of any Service."""
        self._read_at = float("-inf")
        self._told: dict[ServiceName, ExposedState] = {}
        self._refused: dict[ServiceName, str] = {}

    def wake(self) -> None:
        """Look soon."""
        self._woken.set()

    def tasks(self) -> dict[str, Coroutine[object, object, None]]:
        """All that runs as long as the scheduler, by name."""
        return {"exposing": self.run(), "exposed-wishes": self.follow_wishes(), "exposed-logs": self.answer_logs()}

    async def run(self) -> None:
        """A round on every wake-up, and every few seconds, for as long as this runs."""
        while True:
            try:
                if await self._lead():
                    await self.round()
            except TidemillError as error:
                log.warning("exposed services not looked after", error=str(error))
            await asyncio.sleep(_MIN_GAP_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def follow_wishes(self) -> None:
        """Take note of each stop, start and restart."""
        async with self._live.subscribe(WISHES) as messages:
            async for subject, _ in messages:
                self._wishes_heard += 1
                self._wishes.pop(ServiceName(subject.rpartition(".")[2]), None)
                self.wake()

    async def answer_logs(self) -> None:
        """Answer who asks for what instances wrote."""
        async with self._live.subscribe(LOGS) as messages:
            async for _, body in messages:
                if not self._leads:
                    continue
                try:
                    await self._answer_logs(body)
                except TransientError as error:  # who asked has no answer in time, and may ask again
                    log.warning("request for logs not answered", error=str(error))

    async def round(self) -> None:
        """Compare what is wanted with what is there, once.

        Raises:
            TransientError: The bus does not answer.
        """
        wanted = await self._wanted()
        for name in {*self._exposer.services(), *self._told} - wanted.keys():
            await self._remove(name)
        for exposure in wanted.values():
            await self._ensure(exposure)
            await self._tell(exposure)

    async def _lead(self) -> bool:
        held = self._leader.is_held
        if held and not self._leads:
            await self._exposer.adopt()
            self._read_at = float("-inf")
            self._told.clear()
        elif self._leads and not held:
            await self._exposer.release()
        self._leads = held
        return held

    async def _wanted(self) -> Mapping[ServiceName, Exposure]:
        if self._clock() - self._read_at >= _REREAD_SECONDS:
            self._wishes.clear()
            self._read_at = self._clock()
        found = {}
        defined, needs = dict(self._definitions.definitions), dict(self._definitions.services)  # both of one instant
        for name, service in defined.items():
            if service.expose is not None:
                wished = await self._wished(name)
                found[name] = Exposure(
                    service=service,
                    expose=service.expose,
                    revision=needs[name].revision,
                    wish=wished.wish,
                    wish_revision=wished.revision,
                )
        return found

    async def _wished(self, name: ServiceName) -> _Wished:
        if (known := self._wishes.get(name)) is not None:
            return known
        heard = self._wishes_heard
        register = await self._registers.get(wish_register(name))
        wished = _Wished(Wish(), 0)
        if register is not None and register.value:
            try:
                wished = _Wished(Wish.decode(register.value), register.revision)
            except InvalidMessageError as error:
                log.error("wish for an exposed service cannot be read", service=name, error=str(error))
        if heard == self._wishes_heard:  # else this may be the wish before the one that was told meanwhile
            self._wishes[name] = wished
        return wished

    async def _ensure(self, exposure: Exposure) -> None:
        try:
            await self._exposer.ensure(exposure)
            self._refused.pop(exposure.name, None)
        except TidemillError as error:
            if self._refused.get(exposure.name) != str(error):
                log.warning("exposed service cannot run", service=exposure.name, error=str(error))
            self._refused[exposure.name] = str(error)

    async def _remove(self, name: ServiceName) -> None:
        # An empty value says that there is none; a Service defined anew begins without an old wish. While there is
        # something of it left, this is repeated: so before the rest.
        await self._registers.put(state_register(name), b"")
        await self._registers.put(wish_register(name), b"")
        try:
            await self._exposer.remove(name)
        except TidemillError as error:
            log.warning("exposed service not removed", service=name, error=str(error))
            return
        await self._live.publish(state_subject(name), b"")
        for known in (self._told, self._refused, self._wishes):
            known.pop(name, None)
        log.info("exposed service removed", service=name)

    async def _tell(self, exposure: Exposure) -> None:
        name = exposure.name
        before = self._told.get(name) or await self._last_told(name)
        seen = self._exposer.observe(name)
        if (refusal := self._refused.get(name)) is not None:
            seen = Observation(urls=seen.urls, active=seen.active, present=seen.present, reason=refusal, is_broken=True)
        state = state_of(exposure, seen, before, now=datetime.now(UTC))
        if state == self._told.get(name):
            return
        await self._registers.put(state_register(name), state.encode())
        await self._live.publish(state_subject(name), state.encode())
        if before is None or before.state is not state.state:
            log.info("exposed service", service=name, state=state.state.value, reason=state.reason)
        self._told[name] = state

    async def _last_told(self, name: ServiceName) -> ExposedState | None:
        register = await self._registers.get(state_register(name))
        if register is None or not register.value:
            return None
        with contextlib.suppress(InvalidMessageError):
            return ExposedState.decode(register.value)
        return None

    async def _answer_logs(self, body: bytes) -> None:
        try:
            asked = LogsAsked.decode(body)
        except InvalidMessageError as error:
            log.warning("request for logs cannot be read", error=str(error))
            return
        try:
            lines = await self._exposer.logs(asked.service, asked.lines)
            answer = LogsAnswered(lines=tuple(lines))
        except TidemillError as error:
            answer = LogsAnswered(error=str(error))
        await self._live.publish(asked.reply_to, answer.encode())
