"""What this machine has, or what the cgroup of this process lets it have."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")


def usable_millicores() -> int:
    """CPU that this process and its children may use."""
    cores = len(os.sched_getaffinity(0)) * 1000
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return max(1, min(cores, int(quota) * 1000 // int(period)))  # `max` as quota is no number: no limit
    return cores


def usable_memory_bytes() -> int:
    """Memory for Workers: four fifths of what there is."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int((_CGROUP / "memory.max").read_text()))
    return total * 4 // 5
