"""Stop, start and restart: recorded for the scheduler, which follows within a moment, or when it comes back."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tidemill_common.bus import Live, Registers
from tidemill_common.contracts.exposed import Wish, wish_register, wish_subject
from tidemill_common.errors import ConflictError, InvalidInputError, UnavailableError

_TRIES: Final = 5


def wished(before: Wish, action: str, *, now: datetime) -> Wish:
    """What is wanted after one more action.

    Raises:
        InvalidInputError: There is no such action.
    """
    match action:
        case "stop":
            return before.model_copy(update={"stopped": True})
        case "start":
            return before.model_copy(update={"stopped": False})
        case "restart":
            return Wish(stopped=False, restarted_at=now)
    raise InvalidInputError(f"{action!r} is none of stop, start, restart")


class Wishes:
    """Records them."""

    def __init__(self, registers: Registers, live: Live) -> None:
        self._registers = registers
        self._live = live

    async def act(self, service: str, action: str, *, now: datetime) -> int:
        """Record one action; returns the revision by which the scheduler's state tells that it knows.

        Raises:
            TransientError: The bus does not answer; ask again.
        """
        for _ in range(_TRIES):
            register = await self._registers.get(wish_register(service))
            before = Wish.decode(register.value) if register is not None and register.value else Wish()
            wish = wished(before, action, now=now)
            try:
                revision = await self._registers.put(
                    wish_register(service), wish.encode(), revision=register.revision if register is not None else 0
                )
            except ConflictError:
                continue
            await self._live.publish(wish_subject(service), b"")
            return revision
        raise UnavailableError(f"{action} {service}: others change it at the same time")
