"""How long a small Service waits behind another's backlog of 100,000 Invocations, against an idle platform.

Each small Service is called once and has no Worker before: both medians include starting one. The big one's scripts
take 0.2 s, and it has filled the machine before the small ones come. (Through the API both belong to the administrator;
shares between owners are in `bench_planning`'s simulation.)
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.http_load import post_many
from tests.embedded import Platform, running_platform, wait_until

BACKLOG = 100_000
SMALL = 7
ATTEMPT_SECONDS = 0.2


def service(name: str, script: str) -> dict[str, object]:
    """A Service that takes a fifth of a core."""
    return {"name": name, "script": script, "cpu": "0.2", "memory": "64Mi"}


def wait_of(platform: Platform, name: str) -> float:
    """Seconds from a call to the first command of its script, of a Service that has no Worker."""
    token = platform.apply(service(name, "date +%s%N\n"))
    begin = time.time()
    answer = platform.api("POST", f"/job/{name}", content=b"", headers={"Authorization": f"Bearer {token}"})
    where = answer.headers["Location"]
    found: dict[str, str] = {}

    def over() -> bool:
        found.update(platform.api("GET", where).json())
        return found.get("phase") == "Succeeded"

    wait_until(over, f"{name} has run", timeout=120, every=0.2)
    return int(found["log_tail"].split()[0]) / 1e9 - begin


def measure(platform: Platform) -> None:
    """Both medians and their ratio."""
    idle = statistics.median(wait_of(platform, f"idle-{number}") for number in range(SMALL))
    token = platform.apply(service("big", f"sleep {ATTEMPT_SECONDS}\n"))
    url, headers = platform.connection["endpoint"] + "/job/big", {"Authorization": f"Bearer {token}"}
    asyncio.run(post_many(url, times=BACKLOG, connections=32, headers=headers))
    wait_until(lambda: platform.accounts("big").get("requested", 0) >= BACKLOG, "all are queued", timeout=300, every=1)
    behind = statistics.median(wait_of(platform, f"behind-{number}") for number in range(SMALL))
    waiting = platform.accounts("big")
    print("| figure | measured | to reach |\n|---|---|---|")
    print(f"| small Service, idle platform, median wait (cold Worker) | {idle:.2f} s | |")
    print(f"| the same behind {waiting['pending'] + waiting['running']} Invocations of another | {behind:.2f} s | |")
    print(f"| ratio, one Attempt taken off | {(behind - ATTEMPT_SECONDS) / idle:.2f} | <= 2 |")


def main() -> int:
    """Start a platform, measure, stop it."""
    with tempfile.TemporaryDirectory() as scratch, running_platform(Path(scratch)) as platform:
        measure(platform)
    return 0


if __name__ == "__main__":
    sys.exit(main())
