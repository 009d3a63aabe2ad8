"""The bus in this process: the twin of the real ones, for tests. It forgets everything when the process ends."""

from __future__ import annotations

from tidemill_common.bus.memory.clock import Clock, LoopClock, ManualClock
from tidemill_common.bus.memory.server import MemoryServer, open_memory

__all__ = ["Clock", "LoopClock", "ManualClock", "MemoryServer", "open_memory"]
