"""Registers: the newest message of each subject of the Stream STATE; its sequence is the revision."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Final
from uuid import uuid4

from tidemill_common.bus import Register
from tidemill_common.bus.addresses import STATE
from tidemill_common.bus.nats.wire import Wire
from tidemill_common.errors import NotFoundError

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"


class NatsRegisters:
    """Small named values with compare-and-set."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def get(self, name: str) -> Register | None:
        """The value now; None: there is none."""
        try:
            answer = await self._wire.api(f"STREAM.MSG.GET.{STATE}", {"last_by_subj": f"state.{name}"})
        except NotFoundError:
            return None
        message = answer["message"]
        return Register(
            value=base64.b64decode(message.get("data", "")),
            revision=message["seq"],
            time=datetime.fromisoformat(message["time"]),
        )

    async def put(self, name: str, value: bytes, *, revision: int | None = None) -> int:
        """Set it; see `Registers.put`. The id makes a repeat after a broken connection the same put."""
        headers = {"Nats-Msg-Id": f"put.{uuid4().hex}"}
        if revision is not None:
            headers[_EXPECTED] = str(revision)
        return (await self._wire.store(f"state.{name}", value, headers)).seq

    async def delete(self, name: str) -> None:
        """Forget it; success when it was not there."""
        await self._wire.api(f"STREAM.PURGE.{STATE}", {"filter": f"state.{name}"})
