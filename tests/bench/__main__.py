"""`make bench`: every benchmark in turn, with its own servers on loopback; prints the tables of docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

PARTS: Final = (
    "bench_bus",
    "bench_gateway",
    "bench_routing",
    "bench_planning",
    "bench_staging",
    "bench_worker_start",
    "bench_chain",
    "bench_resident",
    "bench_fairness",
)


def main() -> int:
    """Run the parts named on the command line, or all; the exit code counts the parts that failed."""
    failed = 0
    for part in sys.argv[1:] or PARTS:
        print(f"\n## {part}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
