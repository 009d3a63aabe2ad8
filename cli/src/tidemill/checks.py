"""What `doctor` looks at: each check says what it found and, when something is wrong, what to do."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tidemill.client import GatewayClient
from tidemill.errors import CliError
from tidemill.objects import credentials_of
from tidemill.output import size_text
from tidemill.platform.connection import Connection
from tidemill.platform.layout import Layout
from tidemill.platform.records import running_up, workers_of
from tidemill.platform.servers import executable
from tidemill_common.errors import TidemillError
from tidemill_common.storage.opening import open_buckets

_LEAST_DISK: Final = 1024**3
_CLOCK_TOLERANCE: Final = timedelta(seconds=5)


class Verdict(StrEnum):
    """How a check came out."""

    GOOD = "good"
    ODD = "odd"
    """It works, but somebody should look."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    verdict: Verdict
    detail: str
    advice: str = ""


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter is new enough."""
    found = ".".join(map(str, version))
    if version >= (3, 11):
        return Finding("python", Verdict.GOOD, found)
    return Finding("python", Verdict.BAD, found, "install Python 3.11 or newer")


def programs() -> Finding:
    """The servers of the embedded platform are installed."""
    missing = []
    for name in ("nats-server", "weed"):
        try:
            executable(name)
        except FileNotFoundError:
            missing.append(name)
    if missing:
        return Finding("programs", Verdict.BAD, f"missing: {', '.join(missing)}", "run `make install` again")
    return Finding("programs", Verdict.GOOD, "nats-server, weed")


def disk(directory: Path) -> Finding:
    """There is room where the state lives."""
    free = shutil.disk_usage(directory).free
    if free < _LEAST_DISK:
        return Finding("disk", Verdict.BAD, f"{size_text(free)} free at {directory}", "free some space")
    return Finding("disk", Verdict.GOOD, f"{size_text(free)} free at {directory}")


def processes(layout: Layout) -> Finding:
    """`tidemill up` runs on this directory."""
    record = running_up(layout)
    if record is None:
        return Finding("up", Verdict.BAD, f"does not run on {layout.root}", "start it: tidemill up")
    if not record.ready:
        return Finding("up", Verdict.ODD, f"pid {record.pid} is starting", "wait, or look at its logs")
    return Finding("up", Verdict.GOOD, f"pid {record.pid}")


def workers(layout: Layout) -> Finding:
    """How many Workers run on this machine."""
    count = len(workers_of(layout))
    return Finding("workers", Verdict.GOOD, f"{count} running (they come with work)")


def port_answers(check: str, url: str, advice: str) -> Finding:
    """Somebody listens at an address."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError as error:
        return Finding(check, Verdict.BAD, f"{host}:{port}: {error.strerror or error}", advice)
    return Finding(check, Verdict.GOOD, f"{host}:{port} answers")


async def gateway(client: GatewayClient) -> list[Finding]:
    """The gateway is well, knows us, and its clock is ours."""
    try:
        health = await client.request("GET", "/health")
        info = await client.get("/system/info")
    except CliError as error:
        return [Finding("gateway", Verdict.BAD, str(error), "look at logs/gateway.log; is the address right?")]
    return [Finding("gateway", Verdict.GOOD, f"version {info.get('version', '?')}"), clock(health)]


def clock(answer: httpx.Response) -> Finding:
    """The other side's clock is ours: presigned URLs and deadlines need it."""
    stated = answer.headers.get("date")
    if stated is None:
        return Finding("clock", Verdict.GOOD, "not told by the gateway")
    off = abs(datetime.now(UTC) - parsedate_to_datetime(stated))
    if off > _CLOCK_TOLERANCE:
        return Finding("clock", Verdict.BAD, f"{off.total_seconds():.0f} s apart", "set both clocks (NTP)")
    return Finding("clock", Verdict.GOOD, "the same")


async def bridge(connection: Connection) -> Finding:
    """The storage-bridge is well."""
    if connection.events_endpoint is None:
        return Finding("storage-bridge", Verdict.GOOD, "not told by this connection")
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            answer = await http.get(f"{connection.events_endpoint}/health")
    except httpx.HTTPError as error:
        return Finding(
            "storage-bridge", Verdict.BAD, f"does not answer: {type(error).__name__}", "look at logs/storage-bridge.log"
        )
    if answer.status_code != 200:
        return Finding(
            "storage-bridge",
            Verdict.BAD,
            f"{answer.status_code}: {answer.text[:200]}",
            "look at logs/storage-bridge.log",
        )
    return Finding("storage-bridge", Verdict.GOOD, connection.events_endpoint)


async def store(connection: Connection, client: GatewayClient) -> Finding:
    """The object store knows our keys."""
    try:
        credentials = await credentials_of(connection, client)
        async with open_buckets(credentials) as buckets:
            count = len(await buckets.buckets())
    except (TidemillError, CliError) as error:
        return Finding("object store", Verdict.BAD, str(error), "look at logs/seaweedfs.log; are the keys right?")
    return Finding("object store", Verdict.GOOD, f"{credentials.endpoint}, {count} buckets")


async def books(client: GatewayClient) -> list[Finding]:
    """Accounts balance, and nobody waits for an operator."""
    try:
        rows = (await client.get("/v1/accounts"))["items"]
    except CliError as error:
        return [Finding("accounts", Verdict.BAD, str(error))]
    wrong = [row["service"] for row in rows if not row["balanced"]]
    dead = len((await client.get("/v1/dead-letters"))["items"])
    balance = (
        Finding("accounts", Verdict.BAD, f"do not balance: {', '.join(wrong)}", "see `tidemill accounts`")
        if wrong
        else Finding("accounts", Verdict.GOOD, f"{len(rows)} Services balance")
    )
    letters = (
        Finding("dead letters", Verdict.ODD, f"{dead} or more" if dead >= 50 else str(dead), "see `tidemill dead ls`")
        if dead
        else Finding("dead letters", Verdict.GOOD, "none")
    )
    return [balance, letters]


def worst(findings: Sequence[Finding]) -> Verdict:
    """The verdict over all."""
    verdicts = {finding.verdict for finding in findings}
    return next((verdict for verdict in (Verdict.BAD, Verdict.ODD) if verdict in verdicts), Verdict.GOOD)
