"""The whole platform once, on this machine: photographs become thumbnails, thumbnails become descriptions.

Run by `make demo`. Starts the platform in .tidemill/demo on free ports, applies the examples, uploads two photographs
and a file that is none, shows what becomes of each, fetches the results and stops. An upload is a new Event, so running
it twice works twice.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tidemill.client import GatewayClient
from tidemill.commands.invocations import decoded
from tidemill.errors import CliError
from tidemill.objects import Objects, open_objects
from tidemill.output import coloured, err, out
from tidemill.platform.processes import tail
from tidemill.platform.up import platform_running
from tidemill_common.fdl import load_fdl

EXAMPLES: Final = Path(__file__).resolve().parent
DIRECTORY: Final = Path(".tidemill/demo")
RESULTS: Final = DIRECTORY / "results"
UPLOADS: Final = (
    EXAMPLES / "photographs" / "chelsea.png",
    EXAMPLES / "photographs" / "camera.png",
    EXAMPLES / "photographs" / "not-a-photograph.png",
)
EXPECTED: Final = 2 * 2 + 1
"""Two photographs through two Services, and the file that is none through the first."""
PATIENCE_SECONDS: Final = 60
ENDED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True, slots=True)
class Platform:
    """The running platform, as this script uses it."""

    client: GatewayClient
    objects: Objects


@asynccontextmanager
async def running() -> AsyncIterator[Platform]:
    """The platform for the length of the block; its logs are in .tidemill/demo/logs."""
    began = time.monotonic()
    out.print("[bold]starting[/] nats-server, SeaweedFS, gateway, storage-bridge and scheduler …")
    async with (
        platform_running(DIRECTORY, port=0, tell=lambda _name, _line: None) as installation,
        GatewayClient.open(installation.connection) as client,
        open_objects(installation.connection, client) as objects,
    ):
        out.print(f"  ready after {time.monotonic() - began:.1f} s: {installation.endpoint}")
        yield Platform(client, objects)
        out.print("[bold]stopping[/] …")


async def apply(platform: Platform) -> None:
    """Create or update the Services of the examples."""
    for file in sorted(EXAMPLES.glob("*/*.yaml")):
        for entry in load_fdl(file):
            there = await platform.client.service(entry.name)
            await platform.client.request("PUT" if there else "POST", "/system/services", json=entry.document)
            out.print(f"[bold]applied[/]  {entry.name:<10} {file.relative_to(EXAMPLES.parent)}")


async def upload(platform: Platform) -> None:
    """Put the files where the first Service waits for them."""
    for file in UPLOADS:
        path = f"gallery/photographs/{file.name}"
        await platform.objects.upload(file, path)
        out.print(f"[bold]uploaded[/] {file.name} -> {path}")


async def watch(platform: Platform, since: datetime) -> list[dict[str, Any]]:
    """Show the Invocations as they go on, until all that are expected have ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    console = out if out.is_terminal else Console(width=120)
    with Live(console=console, refresh_per_second=10, auto_refresh=console.is_terminal) as live:
        while True:
            found = await platform.client.pages("/v1/invocations", since=since.isoformat())
            found = sorted(found, key=lambda one: one["requested_at"])
            live.update(table(found))
            if sum(one["phase"] in ENDED for one in found) >= EXPECTED:
                return found
            if time.monotonic() > deadline:
                raise CliError(f"only {len(found)} of {EXPECTED} Invocations after {PATIENCE_SECONDS} s")
            await asyncio.sleep(0.1)


def table(invocations: list[dict[str, Any]]) -> Table:
    """What became of each Event so far."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("INPUT", "SERVICE", "PHASE", "SECONDS", "RESULT"):
        rows.add_column(heading, overflow="fold", no_wrap=heading == "INPUT")
    for one in invocations:
        stored = ", ".join(short(artifact["path"]) for artifact in one["outputs"])
        last = (one.get("log_tail") or "").strip().splitlines()[-1:]
        failed = f"{one['reason']}: {last[0] if last else one['message']}" if one["phase"] == "Failed" else ""
        source = (one.get("input") or {}).get("path", "")
        rows.add_row(short(source), one["service"], coloured(one["phase"]), seconds(one), stored or failed)
    return rows


def short(path: str) -> str:
    """A path without the bucket that all of them are in."""
    return path.removeprefix("gallery/")


def seconds(invocation: dict[str, Any]) -> str:
    """From the request to the end."""
    if invocation.get("finished_at") is None:
        return ""
    first, last = (datetime.fromisoformat(invocation[name]) for name in ("requested_at", "finished_at"))
    return f"{(last - first).total_seconds():.2f}"


async def call(platform: Platform) -> None:
    """Call a Service and wait for its answer, as an HTTP client does."""
    text = "a rose is a rose is a rose"
    began = time.monotonic()
    answer = await platform.client.run("wordcount", base64.b64encode(text.encode()), timeout_seconds=60)
    words = ", ".join(decoded(answer.content).decode().splitlines())
    out.print(f"[bold]called[/]   wordcount with {text!r}: {words} ({(time.monotonic() - began) * 1000:.0f} ms)")


async def fetch(platform: Platform) -> None:
    """Copy the results to the local disk."""
    for folder in ("thumbnails", "descriptions"):
        for info in await platform.objects.list(f"gallery/{folder}"):
            target = RESULTS / folder / Path(info.path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            await platform.objects.download(info.path, target)
            out.print(f"[bold]result[/]   {target} ({info.size_bytes} bytes)")


async def show_accounts(platform: Platform) -> bool:
    """Show that every Event is accounted for; False: something is missing."""
    books = await platform.client.get("/v1/accounts")
    for row in books["items"]:
        counts = ", ".join(f"{row[name]} {name}" for name in ("succeeded", "failed", "dead", "pending") if row[name])
        sign = "=" if row["balanced"] else "≠"
        out.print(f"[bold]account[/]  {row['service']:<10} {row['requested']} requested {sign} {counts or 'nothing'}")
    return bool(books["balanced"])


async def demo() -> bool:
    """All of it; True: everything came out as it should."""
    async with running() as platform:
        await apply(platform)
        since = datetime.now(UTC)
        await upload(platform)
        ended = await watch(platform, since)
        out.print()
        await call(platform)
        await fetch(platform)
        balanced = await show_accounts(platform)
    good = sum(one["phase"] == "Succeeded" for one in ended)
    return balanced and good == EXPECTED - 1


def main() -> int:
    """The exit code."""
    began = time.monotonic()
    try:
        good = asyncio.run(demo())
    except CliError as error:
        err.print(f"[red]error:[/] {error}", markup=True)
        for log in sorted((DIRECTORY / "logs").glob("*.log")):
            err.print(f"\n{log}\n{tail(log)}", markup=False)
        return 1
    out.print(f"done in {time.monotonic() - began:.0f} s; start it for good with: .venv/bin/tidemill up")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
