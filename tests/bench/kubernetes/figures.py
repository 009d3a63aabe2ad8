"""Figures of the benchmarks in a cluster: percentiles and the lines of a table."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """p50 / p99 of seconds."""
    return f"{statistics.median(values) * 1e3:,.0f} / {percentile(values, 0.99) * 1e3:,.0f} ms"


def heading(title: str) -> None:
    """A table begins; the load says how calm the machine is."""
    print(
        f"\n### {title} (load {os.getloadavg()[0]:.1f})\n\n| figure | measured | to reach |\n|---|---|---|", flush=True
    )


def row(name: str, value: str, goal: str = "") -> None:
    """One line of the table."""
    print(f"| {name} | {value} | {goal} |", flush=True)
