"""Accepted calls a second of one gateway process: `python -m tests.bench.bench_gateway [seconds]`.

A real NATS and SeaweedFS, a Service, and wrk with 64 connections on `/job`; 201 means that EVENTS has it. Beside it the
same gateway refusing every call (401): what HTTP alone costs here, so the ratio says what the bus and the Event add.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.integration.gateway.test_http import created, gateway_process
from tests.servers import nats_server, seaweed_server


@dataclass(frozen=True)
class Figures:
    """What wrk saw."""

    per_second: float
    p50: str
    p99: str
    refused: int

    def __str__(self) -> str:
        return f"{self.per_second:9.0f}/s   p50 {self.p50:>8}   p99 {self.p99:>8}   not 2xx {self.refused}"


def wrk(url: str, token: str, body: str, seconds: int, directory: Path) -> Figures:
    """One run of wrk."""
    script = directory / "post.lua"
    script.write_text(
        f'wrk.method="POST"\nwrk.body="{body}"\nwrk.headers["Authorization"]="{token}"\n'
        'wrk.headers["Content-Type"]="text/plain"\n'
    )
    command = ["wrk", "-t1", "-c64", f"-d{seconds}", "--latency", "-s", str(script), url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Figures(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _found(r"(?m)^\s+50%\s+(\S+)", text),
        _found(r"(?m)^\s+99%\s+(\S+)", text),
        int(refused.group(1)) if refused else 0,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match.group(1)


async def _token(url: str) -> str:
    async with httpx.AsyncClient(base_url=url, auth=("oscar", "pw"), timeout=30) as client:
        return (await created(client, "bench"))["authorization"]


def main(seconds: int) -> None:
    """Print the figures."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: make servers")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            nats_server(directory) as nats,
            seaweed_server(directory) as seaweed,
            gateway_process(directory, nats, seaweed) as gateway,
        ):
            token = asyncio.run(_token(gateway.url))
            url = f"{gateway.url}/job/bench"
            wrk(url, token, "x", 1, directory)
            for size in (16, 1024, 16 * 1024):
                accepted = wrk(url, token, "x" * size, seconds, directory)
                print(f"POST /job, {size:6} bytes: {accepted}")
                if size == 16:
                    small = accepted
            refused = wrk(url, "Bearer none", "x", seconds, directory)
            print(f"POST /job, refused:       {refused}")
            print(f"accepted / refused:       {small.per_second / refused.per_second:9.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
